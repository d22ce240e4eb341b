//! How likely a difference is when there is none: Fisher's exact test and Tarone's correction for trying many of them.

/// So much smaller than the sum so far, a term no longer matters.
const NEGLIGIBLE: f64 = 1e-17;

/// Draws from a fixed number of bad and good ones.
#[derive(Debug)]
pub(super) struct Chance {
    bad: usize,
    good: usize,
    /// Logarithms of factorials.
    log_factorial: Vec<f64>,
}

impl Chance {
    pub(super) fn new(bad: usize, good: usize) -> Self {
        let mut log_factorial = Vec::with_capacity(bad + good + 1);
        let mut sum = 0.0;
        log_factorial.push(sum);
        for number in 1..=bad + good {
            sum += (number as f64).ln();
            log_factorial.push(sum);
        }
        Chance {
            bad,
            good,
            log_factorial,
        }
    }

    fn log_choose(&self, n: usize, k: usize) -> f64 {
        self.log_factorial[n] - self.log_factorial[k] - self.log_factorial[n - k]
    }

    /// The chance that of `bad + good` that have a feature, so many or more are bad ones: the upper tail of the hypergeometric
    /// distribution.
    pub(super) fn of(&self, bad: usize, good: usize) -> f64 {
        let having = bad + good;
        if bad > self.bad || good > self.good {
            return 1.0;
        }
        let all = self.log_choose(self.bad + self.good, having);
        let mut total = 0.0;
        for count in bad..=having.min(self.bad) {
            let others = having - count;
            if others > self.good {
                continue;
            }
            let term =
                (self.log_choose(self.bad, count) + self.log_choose(self.good, others) - all).exp();
            total += term;
            // Beyond the mean the terms only get smaller.
            let past_mean = count * (self.bad + self.good) > having * self.bad;
            if past_mean && term <= total * NEGLIGIBLE {
                break;
            }
        }
        total.min(1.0)
    }

    /// What one test must stay below so that all of them together are wrong with a chance of at most `alpha`. `counts` are how many
    /// have each feature, bad and good together: a feature that cannot reach a level, even if all that have it were bad ones,
    /// does not count against the others.
    pub(super) fn level(&self, counts: &[usize], alpha: f64) -> f64 {
        let mut best: Vec<f64> = counts
            .iter()
            .map(|&having| {
                let bad = having.min(self.bad);
                self.of(bad, having - bad)
            })
            .collect();
        best.sort_by(f64::total_cmp);
        for tests in 1..=counts.len() {
            let level = alpha / tests as f64;
            if best.partition_point(|chance| *chance <= level) <= tests {
                return level;
            }
        }
        alpha
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-12 + b * 1e-9
    }

    #[test]
    fn tails_are_those_of_the_books() {
        // The lady tasting tea: four cups of eight.
        let tea = Chance::new(4, 4);
        assert!(close(tea.of(4, 0), 1.0 / 70.0));
        assert!(close(tea.of(3, 1), 17.0 / 70.0));
        assert!(close(tea.of(0, 4), 1.0));
        // All of 37 bad ones and half of 1000 others: about a half to the power of 37.
        let many = Chance::new(37, 1000);
        let tail = many.of(37, 500);
        assert!(tail > 1e-12 && tail < 1e-10, "{tail}");
        assert_eq!(many.of(38, 0), 1.0);
        assert!(close(Chance::new(1, 0).of(1, 0), 1.0));
    }

    #[test]
    fn the_tail_is_the_sum_of_all_ways() {
        // Against counting every way to draw, for small numbers.
        for (bad, good) in [(1usize, 5usize), (3, 4), (5, 2), (6, 6)] {
            let chance = Chance::new(bad, good);
            for having in 0..=bad + good {
                let ways: Vec<u32> = (0u32..1 << (bad + good))
                    .filter(|set| set.count_ones() as usize == having)
                    .collect();
                for least in 0..=having.min(bad) {
                    if having - least > good {
                        continue;
                    }
                    let mask = (1u32 << bad) - 1;
                    let hits = ways
                        .iter()
                        .filter(|set| (**set & mask).count_ones() as usize >= least)
                        .count();
                    let expected = hits as f64 / ways.len() as f64;
                    let found = chance.of(least, having - least);
                    assert!(
                        close(found, expected),
                        "{bad} {good} {having} {least}: {found}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_cannot_pass_does_not_count() {
        let chance = Chance::new(10, 100);
        // Ten features that a single write has cannot reach any level; one that ten have can.
        let mut counts = vec![1; 10];
        counts.push(10);
        assert_eq!(chance.level(&counts, 0.01), 0.01);
        assert_eq!(chance.level(&[10; 5], 0.01), 0.01 / 5.0);
        assert_eq!(chance.level(&[], 0.01), 0.01);
    }
}
