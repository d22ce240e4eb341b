//! How long to wait before a request is tried again.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// Waits that double up to a limit, each between half and the whole of it, so that many clients of one server do not come back
/// in the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    tried: u32,
}

impl Default for Backoff {
    /// From 200 ms to 30 s.
    fn default() -> Self {
        Backoff::new(Duration::from_millis(200), Duration::from_secs(30))
    }
}

impl Backoff {
    /// Waits from `first` to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Backoff {
            first,
            longest,
            tried: 0,
        }
    }

    /// The same after so many tries, which somebody else counted.
    pub fn after(self, tried: u32) -> Self {
        Backoff { tried, ..self }
    }

    /// The next wait.
    pub fn wait(&mut self) -> Duration {
        let factor = 2u32.saturating_pow(self.tried.min(31));
        self.tried = self.tried.saturating_add(1);
        let whole = self.first.saturating_mul(factor).min(self.longest);
        // The standard library's hash keys are random: enough for jitter, and no dependency.
        let random = RandomState::new().build_hasher().finish() % 1000;
        let half = whole / 2;
        half + half.mul_f64(random as f64 / 1000.0)
    }

    /// How often it was waited since the last success.
    pub fn tried(&self) -> u32 {
        self.tried
    }

    /// After a success the next wait is the first again.
    pub fn reset(&mut self) {
        self.tried = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_limit_and_begin_again_after_a_success() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(first, longest);
        for whole in [100, 200, 400, 800, 1000, 1000] {
            let whole = Duration::from_millis(whole);
            let wait = backoff.wait();
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
        }
        for _ in 0..100 {
            assert!(backoff.wait() <= longest);
        }
        backoff.reset();
        assert!(backoff.wait() <= first);
    }
}
