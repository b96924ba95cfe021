//! Pseudo-random numbers from a fixed seed, so that a failure can be repeated.

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Marsaglia's xorshift64*.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn word(&mut self) -> u32 {
        u32::try_from(self.next() >> 32).expect("32 bits")
    }

    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        self.word() % limit
    }

    pub(crate) fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let limit = u32::try_from(all.len()).expect("few");
        &all[usize::try_from(self.below(limit)).expect("index")]
    }

    /// Returns a value that conditions typically compare with: a small number,
    /// the end of a word, or a single bit.
    pub(crate) fn value(&mut self) -> u64 {
        match self.below(6) {
            0 => self.below(4).into(),
            1 => *self.of(&[
                0xffff_ffff,
                0x1_0000_0000,
                0x1_0000_0001,
                u64::MAX,
                0x7fff_ffff,
            ]),
            2 => 1 << self.below(64),
            3 => self.below(16).into(),
            4 => u64::from(self.below(4)) << 32 | u64::from(self.below(4)),
            _ => self.next(),
        }
    }
}
