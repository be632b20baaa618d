//! Whole clusters of [`super::Groups`] in a seeded world.

mod anew;
mod change;
mod crowd;
mod disk;
mod life;
mod renew;
mod states;
mod storm;
mod toy;
mod world;
