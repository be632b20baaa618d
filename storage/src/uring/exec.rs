//! The executor. The skeleton of its interface: bodies follow.

use std::path::Path;

use crate::op::{DiskDone, DiskOp};

/// Runs operations on the files of one directory. Cheap to clone; call `run` from as many tasks as there are
/// operations.
#[derive(Clone, Debug)]
pub struct Executor {}

#[allow(unused_variables)]
impl Executor {
    /// Makes the directory if needed, takes its lock and finds out whether O_DIRECT works there.
    pub fn open(dir: &Path) -> Result<Executor, String> {
        unimplemented!()
    }

    pub async fn run(&self, op: DiskOp) -> DiskDone {
        unimplemented!()
    }
}
