//! The client side as a whole: bytes in, bytes out.

mod desk;
mod life;
mod moves;
mod nodes;
mod peer;
mod script;
mod sessions;
mod splits;
