//! Everything between servers and between cores: what they tell each other, who is interested in what, who leads what,
//! and the meta group that owns the assignments.

pub mod codec;
pub mod forming;
pub mod heartbeat;
pub mod interest;
pub mod leads;
pub mod peers;
pub mod place;
pub mod table;
pub mod view;
pub mod wire;
