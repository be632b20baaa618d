//! Sockets over io_uring.
