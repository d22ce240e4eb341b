//! A small generator of pseudo-random numbers, kept here so that no dependency's next version can change a fixture.
//!
//! xoshiro256** 1.0, seeded by SplitMix64, both by David Blackman and Sebastiano Vigna, in the public domain
//! (<https://prng.di.unimi.it/>). Not for secrets.

/// A stream of pseudo-random numbers; equal seeds give equal streams.
pub(super) struct Rng {
    state: [u64; 4],
}

impl Rng {
    pub(super) fn new(seed: u64) -> Rng {
        let mut x = seed;
        let mut split_mix = || {
            x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = x;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Rng {
            state: [split_mix(), split_mix(), split_mix(), split_mix()],
        }
    }

    pub(super) fn next(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.state;
        let result = s1.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= t;
        *s3 = s3.rotate_left(45);
        result
    }

    /// A number in `0..n`; `n` must not be 0. The bias of multiply-and-shift is below 2^-32 for every `n` used here.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(n);
        u64::try_from(wide >> 64)
            .expect("a 64-bit number times another, shifted by 64, fits 64 bits")
    }

    /// A number in `low..=high`.
    pub(super) fn between(&mut self, low: i64, high: i64) -> i64 {
        let span = u64::try_from(high - low + 1).expect("callers pass low <= high");
        low + i64::try_from(self.below(span)).expect("smaller than the span, which is small")
    }

    /// An index into something of `len` elements.
    pub(super) fn index(&mut self, len: usize) -> usize {
        let drawn = self.below(u64::try_from(len).expect("usize is at most 64 bits"));
        usize::try_from(drawn).expect("smaller than a usize")
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    /// True `permille` times in a thousand.
    pub(super) fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of the authors' C code for this state.
    #[test]
    fn it_is_xoshiro256_star_star() {
        let mut rng = Rng {
            state: [1, 2, 3, 4],
        };
        let expected = [
            11520,
            0,
            1509978240,
            1215971899390074240,
            1216172134540287360,
        ];
        for (at, value) in expected.into_iter().enumerate() {
            assert_eq!(rng.next(), value, "output {at}");
        }
    }

    #[test]
    fn split_mix_spreads_a_seed() {
        // SplitMix64's published first outputs for the seed 1234567.
        assert_eq!(
            Rng::new(1234567).state,
            [
                6457827717110365317,
                3203168211198807973,
                9817491932198370423,
                4593380528125082431
            ]
        );
    }

    #[test]
    fn draws_stay_in_their_bounds() {
        let mut rng = Rng::new(7);
        for _ in 0..10_000 {
            assert!((-3..=3).contains(&rng.between(-3, 3)));
            assert!(rng.below(5) < 5);
        }
        assert!(!rng.chance(0) && rng.chance(1000));
    }
}
