//! The clients of one core: from the bytes that they send to who gets which message, and back to bytes.
//!
//! ```text
//!   bytes ─► net::client (parse) ─► input (permission, size) ─► route (match, plan) ─► deliver (queue) ─► one write
//!                                        │                         │
//!                                  connect, auth, subs       streams · services · other cores and servers
//! ```
//!
//! [`Front`] is that whole side of a core as one pure value: bytes, times and words of other nodes go in,
//! [`FrontOutput`]s come out. It promises the peer's protocol (order, texts, when a connection is closed), bounded
//! memory per connection, and that messages of one publisher reach one subscriber in order. It knows nothing about
//! JetStream: a stream is a subscriber that it hands messages to.
//!
//! Reading order: [`front`] → `input` → `publish` → `deliver` → `connect`, `auth`, `permit`, `subs` → `life` → [`moving`] → `pages`.

mod arriving;
pub mod auth;
mod barrier;
pub mod close;
mod conn;
pub mod connect;
pub mod deliver;
pub mod front;
mod habit;
mod info;
mod input;
mod lame_duck;
mod life;
mod lost;
pub mod moving;
pub mod output;
pub mod pages;
pub mod permit;
mod pressure;
mod publish;
mod reload;
pub mod subs;
mod timers;

#[cfg(test)]
mod tests;

pub use front::{Front, FrontOptions};
pub use lost::Lost;
pub use output::{ClientFacts, FrontOutput, Inward, Level, Service, SysEvent, Traffic};
pub use pages::{AccountTotals, ConnInfo, SubInfo, Totals};
