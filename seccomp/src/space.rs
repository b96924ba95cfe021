//! What becomes of each number that a call of one architecture may have: ranges
//! with the same result, and the search among them.
//!
//! Neighbours with the same result are one range, so a profile that allows most
//! calls has far fewer ranges than calls. The search is a binary one in which
//! each call that is simply allowed weighs the same: long ranges of such calls,
//! which the old and frequent ones are in, are found first.

use crate::arch::{Row, X32_BIT};
use crate::program::{Builder, Id};
use crate::tree;
use crate::{Action, Arch, Comparison, Condition, Error, Filter, Rule};

/// The errno of a call that came after those the rules know (errno(3)).
const ENOSYS: Action = Action::Errno(38);

/// Numbers from `start` to the next range.
#[derive(Debug, Clone, Copy)]
struct Range {
    start: u32,
    result: Id,
    /// How often it is looked for, as a guess.
    weight: u32,
}

/// All numbers of an architecture, in order.
#[derive(Debug, Default)]
pub(crate) struct Space {
    ranges: Vec<Range>,
}

/// A rule for one call, by its number.
#[derive(Debug, Clone, Copy)]
struct Entry<'a, 'b> {
    number: u32,
    rule: &'b Rule<'a>,
    name: &'b str,
    /// The first argument that tells this call from others of this number.
    multiplexed: Option<u32>,
}

/// What the rules say about one architecture.
struct Calls<'a, 'b> {
    /// By number, and those of a number in the order of the rules.
    entries: Vec<Entry<'a, 'b>>,
    /// What follows the last number that any rule names.
    newer: Action,
    newest: Option<u32>,
}

impl Space {
    /// The numbers of `arch`, and of the `second` one that looks the same to
    /// the kernel.
    ///
    /// # Errors
    /// Two rules contradict each other, or are too many.
    pub(crate) fn new(
        filter: &Filter<'_>,
        rows: &[Option<Row>],
        builder: &mut Builder,
        arch: Arch,
        second: Option<Arch>,
    ) -> Result<Space, Error> {
        let mut space = Space::default();
        let default = builder.act(filter.default);
        let calls = Calls::new(filter, rows, arch);
        if !matches!(arch, Arch::X86_64 | Arch::X32) {
            space.fill(filter, builder, arch, 0, &calls)?;
            return Ok(space);
        }
        // The kernel looks at the one bit; to libseccomp all numbers from there
        // on are x32's. Where the two differ there is no call either way.
        let foreign = builder.act(Action::KillThread);
        let newer = |builder: &mut Builder, calls: &Calls<'_, '_>, otherwise| match calls.newest {
            Some(_) => builder.act(calls.newer),
            None => otherwise,
        };
        match (arch, second) {
            (Arch::X86_64, None) => {
                space.fill(filter, builder, arch, 0, &calls)?;
                space.push(X32_BIT, foreign, 0);
                let beyond = newer(builder, &calls, foreign);
                space.push(2 * X32_BIT, beyond, 0);
                space.push(3 * X32_BIT, foreign, 0);
                // A tracer's way to skip a call.
                space.push(u32::MAX, default, 0);
            }
            (Arch::X86_64, Some(second)) => {
                let others = Calls::new(filter, rows, second);
                space.fill(filter, builder, arch, 0, &calls)?;
                space.fill(filter, builder, second, X32_BIT, &others)?;
                let beyond = newer(builder, &calls, default);
                space.push(2 * X32_BIT, beyond, 0);
                let beyond = newer(builder, &others, default);
                space.push(3 * X32_BIT, beyond, 0);
            }
            _ => {
                space.push(0, foreign, 0);
                space.fill(filter, builder, arch, X32_BIT, &calls)?;
                space.push(2 * X32_BIT, default, 0);
                let beyond = newer(builder, &calls, default);
                space.push(3 * X32_BIT, beyond, 0);
            }
        }
        Ok(space)
    }

    /// The numbers of one architecture, from `first` on.
    fn fill(
        &mut self,
        filter: &Filter<'_>,
        builder: &mut Builder,
        arch: Arch,
        first: u32,
        calls: &Calls<'_, '_>,
    ) -> Result<(), Error> {
        let default = builder.act(filter.default);
        let allowed = builder.act(Action::Allow);
        self.push(first, default, 0);
        let newest = calls.newest.unwrap_or(u32::MAX);
        for entries in calls
            .entries
            .chunk_by(|one, other| one.number == other.number)
        {
            let number = entries[0].number;
            if number > newest {
                break;
            }
            let result = result(entries, arch, builder, default)?;
            self.push(number, result, u32::from(result == allowed));
            self.push(number + 1, default, 0);
        }
        if let Some(newest) = calls.newest {
            let newer = builder.act(calls.newer);
            self.push(newest + 1, newer, 0);
        }
        Ok(())
    }

    /// Goes on with `result` from `start`, which is not before the last range.
    fn push(&mut self, start: u32, result: Id, weight: u32) {
        // The range before turns out to be empty.
        if self.ranges.last().is_some_and(|last| last.start == start) {
            self.ranges.pop();
        }
        match self.ranges.last_mut() {
            Some(last) if last.result == result => last.weight += weight,
            _ => self.ranges.push(Range {
                start,
                result,
                weight: weight + 1,
            }),
        }
    }

    /// The search for the range of the number, which is loaded.
    pub(crate) fn search(&self, builder: &mut Builder) -> Id {
        search(&self.ranges, builder)
    }
}

fn search(ranges: &[Range], builder: &mut Builder) -> Id {
    match ranges {
        [] => builder.act(Action::KillThread),
        [range] => range.result,
        // One number among others.
        [before, one, after] if before.result == after.result && after.start - one.start == 1 => {
            builder.is_number(one.start, one.result, before.result)
        }
        ranges => {
            let (lower, upper) = ranges.split_at(middle(ranges));
            let start = upper[0].start;
            let (lower, upper) = (search(lower, builder), search(upper, builder));
            builder.is_from(start, upper, lower)
        }
    }
}

/// Where both sides weigh as much as possible the same.
fn middle(ranges: &[Range]) -> usize {
    let weight = |ranges: &[Range]| ranges.iter().map(|range| range.weight).sum::<u32>();
    let (all, mut lower) = (weight(ranges), 0);
    let mut best = (u32::MAX, 1);
    for (index, range) in ranges.iter().enumerate().take(ranges.len() - 1) {
        lower += range.weight;
        best = best.min((lower.abs_diff(all - lower), index + 1));
    }
    best.1
}

impl<'a, 'b> Calls<'a, 'b> {
    fn new(filter: &'b Filter<'a>, rows: &[Option<Row>], arch: Arch) -> Calls<'a, 'b> {
        let mut calls = Calls {
            entries: Vec::with_capacity(rows.len()),
            newer: ENOSYS,
            newest: None,
        };
        let names = filter
            .rules
            .iter()
            .flat_map(|rule| rule.names.iter().map(move |name| (rule, name)));
        for ((rule, name), row) in names.zip(rows) {
            let multiplexed = arch.multiplexed(name);
            let number = row.and_then(|row| row.number(arch));
            // Those behind another number do not count for what is newer, as
            // in runc.
            if multiplexed.is_none() {
                calls.newest = calls.newest.max(number);
            }
            if rule.action == filter.default {
                continue;
            }
            let direct = number.map(|number| (number, None));
            let behind = multiplexed.map(|behind| (behind.number, Some(behind.call)));
            for (number, multiplexed) in behind.into_iter().chain(direct) {
                calls.entries.push(Entry {
                    number,
                    rule,
                    name,
                    multiplexed,
                });
            }
        }
        calls.entries.sort_by_key(|entry| entry.number);
        // A filter that names only the very first call does not mean that the
        // others are new.
        if filter.default.lets_pass() || calls.newest == Some(0) {
            calls.newest = None;
        }
        calls
    }
}

/// What becomes of a call that these rules are about.
fn result(
    entries: &[Entry<'_, '_>],
    arch: Arch,
    builder: &mut Builder,
    default: Id,
) -> Result<Id, Error> {
    let is_64_bit = arch.is_64_bit();
    let mut tree = Vec::new();
    for entry in entries {
        for conditions in entry.alternatives(is_64_bit) {
            if conditions.is_empty() {
                return Ok(builder.act(entry.rule.action));
            }
            tree::add(&mut tree, &conditions, entry.rule.action, is_64_bit).map_err(|_| {
                Error::Conflict {
                    name: entry.name.to_owned(),
                    arch,
                }
            })?;
        }
        if tree.len() > crate::MOST_INSTRUCTIONS {
            return Err(Error::TooLong);
        }
    }
    builder.tests(&tree, default)
}

impl Entry<'_, '_> {
    /// Conditions of which all must hold, in any of the lists.
    fn alternatives(&self, is_64_bit: bool) -> Vec<Vec<Condition>> {
        let conditions = &self.rule.conditions;
        let on_same = |index: u8| conditions.iter().filter(|one| one.index == index).count() > 1;
        if conditions.iter().any(|condition| on_same(condition.index)) {
            let each = conditions.iter();
            return each
                .map(|condition| self.complete(&[*condition], is_64_bit))
                .collect();
        }
        vec![self.complete(conditions, is_64_bit)]
    }

    /// The conditions that say something, and the one that tells the call from
    /// others of the same number; it takes the place of any on its argument.
    fn complete(&self, conditions: &[Condition], is_64_bit: bool) -> Vec<Condition> {
        let multiplexed = self.multiplexed.map(|call| Condition {
            index: 0,
            comparison: Comparison::Equal(call.into()),
        });
        let counts = |condition: &Condition| {
            let is_replaced = multiplexed.is_some() && condition.index == 0;
            !is_replaced && !tree::always_holds(condition, is_64_bit)
        };
        let of_rule = conditions.iter().copied().filter(counts);
        multiplexed.into_iter().chain(of_rule).collect()
    }
}
