//! The protocol between Trestle servers.
