//! File systems of their own, for tests about disks: an ext4 in a file, whose power can be cut, and a tmpfs of fixed size.
//!
//! They take root and a kernel with loop devices. Where one is missing there is a reason to skip, and the test says it.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Scratch, wait_for};

/// `FS_IOC_SHUTDOWN`, and "do not write the journal out": nothing that is still in memory arrives any more.
const SHUTDOWN: nix::libc::c_ulong = 0x8004_587d;
const NO_LOG_FLUSH: u32 = 2;

/// A mounted file system. Whoever uses it must be gone before it is dropped.
pub struct Mount {
    pub dir: PathBuf,
    image: PathBuf,
}

impl Mount {
    /// An ext4 of so many MiB.
    pub fn ext4(scratch: &Scratch, mib: u64) -> Result<Mount, String> {
        root()?;
        let (dir, image) = (scratch.0.join("disk"), scratch.0.join("image"));
        std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
        File::create(&image).and_then(|file| file.set_len(mib << 20)).map_err(|e| e.to_string())?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", text(&image)])?;
        let mount = Mount { dir, image };
        mount.mount()?;
        Ok(mount)
    }

    /// A tmpfs of so many MiB.
    pub fn tmpfs(scratch: &Scratch, mib: u64) -> Result<Mount, String> {
        root()?;
        let dir = scratch.0.join("tmpfs");
        std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
        run("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs", text(&dir)])?;
        Ok(Mount { dir, image: PathBuf::new() })
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-o", "loop", text(&self.image), text(&self.dir)])
    }

    /// The power goes: every later write fails, and what was written but not flushed never arrives.
    pub fn cut_power(&self) {
        let (dir, how) = (File::open(&self.dir).unwrap(), NO_LOG_FLUSH);
        // SAFETY: the call reads one u32 through the pointer, which outlives it.
        let done = unsafe { nix::libc::ioctl(dir.as_raw_fd(), SHUTDOWN, &raw const how) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    /// The power is back: the file system recovers from its journal.
    pub fn power_on(&self) {
        wait_for("the disk to be let go", || run("umount", &[text(&self.dir)]).ok());
        self.mount().unwrap();
    }

    /// Makes it read-only (`ro`) or writable again (`rw`).
    pub fn remount(&self, how: &str) {
        run("mount", &["-o", &format!("remount,{how}"), text(&self.dir)]).unwrap();
    }

    pub fn store(&self) -> String {
        self.dir.join("store").display().to_string()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = run("umount", &["-l", text(&self.dir)]);
    }
}

/// What there is, or nothing with a line that says why.
pub fn or_skip(mount: Result<Mount, String>) -> Option<Mount> {
    mount.map_err(|why| eprintln!("skipped: {why}")).ok()
}

fn root() -> Result<(), String> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err("mounting takes root".into()) }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("{program}: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {said}")) }
}
