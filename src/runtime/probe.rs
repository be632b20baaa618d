//! Is io_uring to be had? glommio panics with a misleading text where it is not, so we ask first and explain.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The kernel's answer to a minimal `io_uring_setup`, as a sentence that says what to do.
///
/// # Errors
/// The sentence.
pub fn io_uring() -> Result<(), String> {
    // struct io_uring_params is 120 bytes; all zero asks for the defaults.
    let mut params = [0u8; 120];
    // SAFETY: the kernel reads and writes at most the 120 bytes of `params`, which outlive the call; one entry is the
    // smallest legal ring.
    let fd = unsafe { nix::libc::syscall(nix::libc::SYS_io_uring_setup, 1u32, params.as_mut_ptr()) };
    if fd >= 0 {
        // SAFETY: the descriptor was made by the call above and is owned by nobody else.
        unsafe { nix::libc::close(fd as i32) };
        return Ok(());
    }
    Err(explain(&io::Error::last_os_error()))
}

/// What to do about a kernel that refuses.
fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(nix::libc::ENOSYS) => "this kernel has no io_uring; Trestle needs Linux 5.8 or newer".to_owned(),
        Some(nix::libc::EPERM) => "io_uring is forbidden here: set the sysctl kernel.io_uring_disabled=0, or allow \
                                   io_uring_setup in the container's seccomp profile"
            .to_owned(),
        Some(nix::libc::ENOMEM) => "io_uring cannot lock memory: raise the limit (ulimit -l, LimitMEMLOCK=) to at \
                                    least 512 KiB"
            .to_owned(),
        _ => format!("io_uring cannot be set up: {error}"),
    }
}

/// Least limit of locked memory that an executor starts with, bytes: below it glommio gives up without a word to us.
const LOCKED_BYTES_MIN: u64 = 512 << 10;

/// Raises the soft limits to the hard ones: of locked memory, against which the rings count, and of open files, of which
/// each connection is one. A privileged process gets the locked memory that it needs, whatever its limit was.
///
/// # Errors
/// What to do about too little locked memory, the usual limit in containers.
pub fn raise_limits() -> Result<(), String> {
    // Failing leaves the old limit: the listeners report too few files.
    let _ = raise(Resource::RLIMIT_NOFILE, 0);
    if raise(Resource::RLIMIT_MEMLOCK, LOCKED_BYTES_MIN).is_ok_and(|limit| limit >= LOCKED_BYTES_MIN) {
        return Ok(());
    }
    Err(explain(&io::Error::from_raw_os_error(nix::libc::ENOMEM)))
}

/// The limit after raising it to what is allowed, and to at least that where the process may.
fn raise(resource: Resource, least: u64) -> nix::Result<u64> {
    let (soft, hard) = getrlimit(resource)?;
    if hard < least && setrlimit(resource, least, least).is_ok() {
        return Ok(least);
    }
    if soft < hard {
        setrlimit(resource, hard, hard)?;
    }
    Ok(hard)
}

/// CPUs that this process may use, by its affinity.
pub fn cpus() -> u16 {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0));
    let count =
        set.map_or(1, |set| (0..nix::sched::CpuSet::count()).filter(|c| set.is_set(*c).unwrap_or(false)).count());
    u16::try_from(count).unwrap_or(u16::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        let text = |code| explain(&io::Error::from_raw_os_error(code));
        assert!(text(nix::libc::ENOSYS).contains("Linux 5.8 or newer"));
        assert!(text(nix::libc::EPERM).contains("kernel.io_uring_disabled=0"));
        assert!(text(nix::libc::ENOMEM).contains("LimitMEMLOCK="));
        assert!(text(nix::libc::EINVAL).starts_with("io_uring cannot be set up: "));
    }

    #[test]
    fn there_is_a_cpu() {
        assert!(cpus() >= 1);
    }
}
