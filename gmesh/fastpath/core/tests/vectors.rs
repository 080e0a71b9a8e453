//! The repository's vectors: what real daemons and the specification's authors put on the wire.

use std::path::Path;

use gmesh_core::crypto::legacy::LegacyKey;
use gmesh_core::crypto::{record_ciphers, Job, RecordKey, TAG};
use serde_json::Value;

fn load(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/vectors/data").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn check_record(key: &[u8], number: u32, plain: &[u8], sealed: &[u8]) {
    let key = RecordKey::new(key[..32].try_into().unwrap());
    for cipher in record_ciphers() {
        let mut jobs = [Job::new(number, 0, plain.len())];
        let mut buffer = plain.to_vec();
        buffer.resize(plain.len() + TAG, 0);
        cipher.seal(&key, &mut buffer, &mut jobs);
        assert_eq!(buffer, sealed, "{}", cipher.name());
        cipher.open(&key, &mut buffer, &mut jobs);
        assert!(jobs[0].ok);
        assert_eq!(&buffer[..plain.len()], plain, "{}", cipher.name());
    }
}

#[test]
fn records() {
    let primitives = load("sptps-primitives.json");
    let cases = primitives["cipher"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        check_record(
            &hex(&case["key_block"]),
            number(&case["number"]),
            &hex(&case["plaintext"]),
            &hex(&case["sealed"]),
        );
    }
}

#[test]
fn node_datagrams() {
    let nodes = load("sptps-nodeids.json");
    // Alpha asked for the session, and who asks encrypts with the second half of the material.
    let key = &hex(&nodes["key_material"])[64..];
    let cases = nodes["datagrams"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let datagram = hex(&case["datagram"]);
        let mut plain = vec![number(&case["record_type"]) as u8];
        plain.extend(hex(&case["data"]));
        check_record(key, number(&case["number"]), &plain, &datagram[16..]);
    }
}

#[test]
fn legacy_datagrams() {
    let vectors = load("legacy-udp.json");
    let mut checked = 0;
    for case in vectors["cases"].as_array().unwrap() {
        for direction in ["alice->bob", "bob->alice"] {
            let keys = &case[if direction == "alice->bob" { "key_alice_to_bob" } else { "key_bob_to_alice" }];
            if number(&keys["compression"]) != 0 {
                continue;
            }
            let mac_len = number(&keys["maclength"]) as usize;
            let key =
                LegacyKey::new(number(&keys["cipher"]), number(&keys["digest"]), mac_len, &hex(&keys["key"])).unwrap();
            for packet in case["datagrams"].as_array().unwrap().iter().filter(|packet| packet["dir"] == direction) {
                let mut plain = number(&packet["seqno"]).to_be_bytes().to_vec();
                plain.extend(hex(&packet["frame"]));
                let datagram = hex(&packet["datagram"]);
                let mut buffer = plain.clone();
                buffer.resize(key.sealed_len(plain.len()), 0);
                key.seal(&mut buffer, std::slice::from_ref(&(0..plain.len())));
                assert_eq!(buffer, datagram, "{}", case["name"]);
                let len = key.open(&mut buffer).unwrap();
                assert_eq!(buffer[..len], plain, "{}", case["name"]);
                checked += 1;
            }
        }
    }
    assert!(checked > 100, "only {checked}");
}
