//! The operating system's clocks, as a thread that simulates sees them: they stand still until they are told what time it is.
//!
//! Libraries that are not asked to simulate read the clock by themselves: the HTTP/2 one forgets a stream a second after it was reset, and
//! answers to late frames for it in another way from then on. A machine that paused for a second in the middle of a run changed what
//! was simulated. Such reads end in the C library's `clock_gettime`; a program that links this crate has the function from here.
//!
//! Owns nothing but that function. Called by the simulation's world, which starts the clocks before anything else and sets them after each
//! step. Only the thread that called [`SimulatedClocks::start`] is affected: all others see the real clocks, and so does the search over
//! seeds. It must never be linked into what is shipped, and never wait or ask for anything else: whoever reads a clock runs through it.

use std::cell::Cell;
use std::marker::PhantomData;
use std::time::Duration;

use libc::{CLOCK_MONOTONIC, CLOCK_REALTIME, SYS_clock_gettime, c_int, clockid_t, timespec};

/// Wall clock at the start of every simulation, since 1970.
pub const EPOCH: Duration = Duration::from_secs(1_767_225_600);

#[derive(Clone, Copy)]
struct Shown {
    /// The real one when the simulation began: what was read before stays in the past.
    monotonic_start: Duration,
    elapsed: Duration,
}

thread_local! {
    static SHOWN: Cell<Option<Shown>> = const { Cell::new(None) };
}

/// This thread's clocks, until it is dropped.
#[derive(Debug)]
pub struct SimulatedClocks(PhantomData<*const ()>);

impl SimulatedClocks {
    /// Stops this thread's clocks: the wall clock at [`EPOCH`], the monotonic one where it is.
    pub fn start() -> Self {
        SHOWN.set(Some(Shown {
            monotonic_start: real_monotonic(),
            elapsed: Duration::ZERO,
        }));
        Self(PhantomData)
    }

    /// Sets this thread's clocks: so much time has gone by since [`start`](Self::start).
    pub fn show(&self, elapsed: Duration) {
        let shown = SHOWN.get();
        SHOWN.set(shown.map(|shown| Shown { elapsed, ..shown }));
    }
}

impl Drop for SimulatedClocks {
    fn drop(&mut self) {
        SHOWN.set(None);
    }
}

fn real_monotonic() -> Duration {
    let mut time = to_timespec(Duration::ZERO);
    // SAFETY: `time` is valid for writes and of the type that the call fills.
    let failed = unsafe { libc::syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &raw mut time) };
    assert_eq!(failed, 0, "there is no monotonic clock");
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

fn to_timespec(time: Duration) -> timespec {
    timespec {
        tv_sec: time.as_secs().cast_signed(),
        tv_nsec: time.subsec_nanos().into(),
    }
}

/// The C library's function of this name, for the whole program.
///
/// # Safety
/// As the C library has it: `time` is valid for writes.
// SAFETY: signature and meaning are those of POSIX; no other function of this program has the name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let simulated = SHOWN.get().and_then(|shown| match clock {
        CLOCK_MONOTONIC => Some(shown.monotonic_start + shown.elapsed),
        CLOCK_REALTIME => Some(EPOCH + shown.elapsed),
        _ => None,
    });
    match simulated {
        Some(simulated) => {
            // SAFETY: the caller's promise.
            unsafe { time.write(to_timespec(simulated)) };
            0
        }
        // SAFETY: the caller's promise; the kernel checks the pointer once more.
        None => unsafe { libc::syscall(SYS_clock_gettime, clock, time) as c_int },
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "this is about the clocks that nothing else may read"
)]
mod tests {
    use std::time::{Instant, SystemTime};

    use super::*;

    #[test]
    fn clocks_of_a_simulating_thread_show_what_they_are_told() {
        let before = Instant::now();
        let clocks = SimulatedClocks::start();
        let start = Instant::now();
        assert!(start >= before);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(Instant::now(), start, "real time went by");
        assert_eq!(SystemTime::now(), SystemTime::UNIX_EPOCH + EPOCH);

        let hour = Duration::from_secs(3600);
        clocks.show(hour);
        assert_eq!(start.elapsed(), hour);
        assert_eq!(SystemTime::now(), SystemTime::UNIX_EPOCH + EPOCH + hour);

        let elsewhere = std::thread::spawn(Instant::now).join().expect("no panic");
        assert!(elsewhere < start + hour, "another thread's clock was set");
        drop(clocks);
        assert!(Instant::now() < start + hour, "the clock is real again");
    }
}
