//! Whole consumers: scenes that a reader can follow, a random world against a dumb model, and damaged bytes.

mod answers;
mod floors;
mod index;
mod mutate;
mod scenes;
mod tape;
mod world;
