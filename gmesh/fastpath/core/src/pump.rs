//! The thread that waits for the device, the sockets and commands, and lets the engine work.
//!
//! Nothing is timed, and nothing is polled for.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crate::engine::events::Command;
use crate::engine::table::NodeId;
use crate::engine::{Engine, Shared};
use crate::packet::headers::Link;
use crate::sys::event::{monotonic, Epoll, EventFd};
use crate::sys::system::System;
use crate::sys::tun::Offloads;

const WAKE: u64 = u64::MAX;
const DEVICE: u64 = u64::MAX - 1;

/// What a pump is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    pub me: NodeId,
    pub link: Link,
    pub device: RawFd,
    pub sockets: Vec<RawFd>,
    /// Whether trains are used where the kernel has them.
    pub trains: bool,
}

/// What the kernel grants.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    pub offloads: Offloads,
    pub sends_trains: bool,
    pub receives_trains: bool,
}

/// A running engine.
pub struct Pump {
    shared: Arc<Shared>,
    wake: Arc<EventFd>,
    news: Arc<EventFd>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    pub granted: Granted,
}

impl Pump {
    /// Start to work. The descriptors must stay open until `stop` has returned.
    pub fn start(setup: &Setup, shared: Arc<Shared>) -> io::Result<Self> {
        let system = System::new(setup.device, &setup.sockets, setup.trains)?;
        let granted = Granted {
            offloads: system.offloads,
            sends_trains: system.sockets.iter().any(|socket| socket.sends_trains),
            receives_trains: system.sockets.iter().any(|socket| socket.receives_trains),
        };
        let (wake, news) = (Arc::new(EventFd::new()?), Arc::new(EventFd::new()?));
        let epoll = Epoll::new()?;
        epoll.add(wake.as_raw_fd(), WAKE)?;
        epoll.add(setup.device, DEVICE)?;
        for (token, socket) in setup.sockets.iter().enumerate() {
            epoll.add(*socket, token as u64)?;
        }
        let stopping = Arc::new(AtomicBool::new(false));
        let engine = Engine::new(system, setup.link, setup.me, granted.offloads.udp, shared.clone());
        let mut worker = Worker {
            engine,
            epoll,
            device: setup.device,
            shared: shared.clone(),
            wake: wake.clone(),
            news: news.clone(),
            stopping: stopping.clone(),
        };
        let end = End(news.clone());
        let thread = Builder::new().name("gmesh pump".into()).spawn(move || {
            let _end = end;
            worker.run();
        })?;
        Ok(Self { shared, wake, news, stopping, thread: Some(thread), granted })
    }

    pub fn command(&self, command: Command) {
        self.shared.queues.command(command);
        self.wake.set();
    }

    /// Look at the commands that wait.
    pub fn wake(&self) {
        self.wake.set();
    }

    /// There are events, or still some.
    pub fn announce(&self) {
        self.news.set();
    }

    /// Readable while there are events.
    #[must_use]
    pub fn news(&self) -> RawFd {
        self.news.as_raw_fd()
    }

    /// Before events are taken: what comes from now on is announced anew.
    pub fn clear_news(&self) {
        self.news.clear();
    }

    /// End the thread. Commands given before are done first.
    pub fn stop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        self.wake.set();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by itself; nothing is left to be ended.
            let _ = thread.join();
        }
    }

    /// Whether the thread is at work: false after a fault of the engine, too.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Makes the end of the thread known, a fault's too: who waits for events looks whether it still runs.
struct End(Arc<EventFd>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.set();
    }
}

struct Worker {
    engine: Engine<System>,
    epoll: Epoll,
    device: RawFd,
    shared: Arc<Shared>,
    wake: Arc<EventFd>,
    news: Arc<EventFd>,
    stopping: Arc<AtomicBool>,
}

impl Worker {
    fn run(&mut self) {
        let mut tokens = Vec::new();
        loop {
            if self.epoll.wait(&mut tokens).is_err() {
                return;
            }
            self.engine.set_time(monotonic());
            for &token in &tokens {
                match token {
                    WAKE => {
                        self.wake.clear();
                        if self.engine.perform() {
                            self.wake.set();
                        } else if self.stopping.load(Ordering::Acquire) {
                            return;
                        }
                    }
                    DEVICE => {
                        if !self.engine.device_readable() {
                            self.epoll.remove(self.device);
                        }
                    }
                    socket => self.engine.socket_readable(socket as usize),
                }
            }
            if self.shared.queues.has_events() {
                self.news.set();
            }
        }
    }
}
