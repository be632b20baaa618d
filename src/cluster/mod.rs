//! Everything between servers and between cores: what they tell each other, who is interested in what, who leads what,
//! and the meta group that owns the assignments.

pub mod wire;
pub mod place;
pub mod table;
pub mod forming;
pub mod heartbeat;
pub mod codec;
pub mod interest;
pub mod leads;
pub mod view;
pub mod peers;
