//! The Python binding of gmesh-core.
