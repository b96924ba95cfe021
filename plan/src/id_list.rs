//! Parses lists of CPUs and memory nodes in the kernel's "list format" (cpuset(7)), such as
//! `0-3,5`.

use core::fmt;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::prelude::*;

/// The largest number that is accepted, far more than the kernel's own limit. Without it, a
/// mistyped range could use up all memory.
const LARGEST: u32 = 65_535;

/// A set of small numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdList {
    words: Vec<u64>,
}

impl IdList {
    /// Parses a list. The empty list has no numbers.
    ///
    /// # Errors
    /// Returns an error if a part is not a number or a range, or if a number is above
    /// 65535.
    pub fn parse(text: &str) -> Result<IdList> {
        let mut list = IdList::default();
        // sched.h's list format allows spaces and empty parts ("0, 1,").
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                bail!("range {part:?} ends before it begins");
            }
            for id in first..=last {
                list.insert(id);
            }
        }
        Ok(list)
    }

    fn insert(&mut self, id: u32) {
        let word = (id / u64::BITS) as usize;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (id % u64::BITS);
    }

    /// Returns how many numbers are in the set.
    pub fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Returns the set as a bit mask, as the kernel expects it: bit `n % 64` of word `n /
    /// 64` stands for `n`.
    pub fn words(&self) -> &[u64] {
        &self.words
    }
}

/// Prints the set as one hexadecimal number with a bit for each CPU, as CPU masks are
/// usually shown.
impl fmt::LowerHex for IdList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = self.words.iter().rev();
        fmt::LowerHex::fmt(words.next().unwrap_or(&0), f)?;
        words.try_for_each(|word| write!(f, "{word:016x}"))
    }
}

fn number(text: &str) -> Result<u32> {
    let number: u32 = text.trim().parse().with_context(|| format!("{text:?}"))?;
    if number > LARGEST {
        bail!("{number} is above {LARGEST}");
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_kernel() {
        for (text, words) in [
            ("", &[][..]),
            ("0", &[1]),
            ("0-3,5", &[0b10_1111]),
            (" 1 , 3,", &[0b1010]),
            ("64", &[0, 1]),
            ("63-64", &[1 << 63, 1]),
        ] {
            let list = IdList::parse(text).expect(text);
            assert_eq!(list.words(), words, "{text}");
        }
        assert_eq!(IdList::parse("0-7").expect("list").count(), 8);
        for (text, shown) in [("", "0x0"), ("0-1", "0x3"), ("64", "0x10000000000000000")] {
            assert_eq!(format!("{:#x}", IdList::parse(text).expect("list")), shown);
        }
    }

    #[test]
    fn what_is_no_list() {
        for text in [
            "x",
            "1-",
            "-1",
            "3-1",
            "0-9876543210",
            "65536",
            "1;2",
            "0x1",
        ] {
            IdList::parse(text).expect_err(text);
        }
    }
}
