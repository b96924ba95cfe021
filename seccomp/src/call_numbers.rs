//! Divides the numbers of one architecture into ranges with the same result,
//! and builds the search among the ranges.
//!
//! [`Space::new`] collects the rules by number and appends range after range.
//! Neighbouring numbers with the same result share a range, so a profile that
//! allows most calls has far fewer ranges than calls. [`Space::search`] builds a
//! weighted binary search: each call that is allowed without conditions weighs
//! the same, so that the search finds long ranges of such calls first. Old and
//! frequent calls are in those ranges.

use crate::arch::{Row, X32_BIT};
use crate::program::{Builder, Id};
use crate::tree;
use crate::{Action, Arch, Comparison, Condition, Error, Filter, Rule};

/// The action for a call that is newer than all calls in the rules: errno
/// ENOSYS (errno(3)).
const ENOSYS: Action = Action::Errno(38);

/// The numbers from `start` to the start of the next range.
#[derive(Debug, Clone, Copy)]
struct Range {
    start: u32,
    result: Id,
    /// An estimate of how often programs make calls in the range.
    weight: u32,
}

/// All numbers of an architecture, as ranges in ascending order.
#[derive(Debug, Default)]
pub(crate) struct Space {
    ranges: Vec<Range>,
}

/// A rule for one call, with the call's number.
#[derive(Debug, Clone, Copy)]
struct Entry<'a, 'b> {
    number: u32,
    rule: &'b Rule<'a>,
    name: &'b str,
    /// If socketcall(2) or ipc(2) carries the call: the value of the first
    /// argument that selects it.
    multiplexed: Option<u32>,
}

/// The rules of one architecture.
struct Calls<'a, 'b> {
    /// Sorted by number; entries of one number are in the order of the rules.
    entries: Vec<Entry<'a, 'b>>,
    /// The action for numbers greater than `newest`.
    newer: Action,
    /// The greatest number that the rules name, if greater numbers get an
    /// action of their own.
    newest: Option<u32>,
}

impl Space {
    /// Assigns a result to each number of `arch`. `second` is x32 if `arch` is
    /// x86_64 and the filter covers both.
    ///
    /// # Errors
    /// Returns an error if two rules contradict each other, or if there are too
    /// many rules.
    pub(crate) fn new(
        filter: &Filter<'_>,
        rows: &[Option<Row>],
        builder: &mut Builder,
        arch: Arch,
        second: Option<Arch>,
    ) -> Result<Space, Error> {
        let mut space = Space::default();
        let default = builder.action(filter.default);
        let calls = Calls::new(filter, rows, arch);
        if !matches!(arch, Arch::X86_64 | Arch::X32) {
            space.fill(filter, builder, arch, 0, &calls)?;
            return Ok(space);
        }
        // The kernel takes a number for a call of x32 if bit 30 is set, libseccomp if it is
        // 0x40000000 or more. This follows libseccomp: no call has a number for which the two
        // differ.
        let foreign = builder.action(Action::KillThread);
        let newer = |builder: &mut Builder, calls: &Calls<'_, '_>, otherwise| match calls.newest {
            Some(_) => builder.action(calls.newer),
            None => otherwise,
        };
        match (arch, second) {
            (Arch::X86_64, None) => {
                space.fill(filter, builder, arch, 0, &calls)?;
                space.push(X32_BIT, foreign, 0);
                let beyond = newer(builder, &calls, foreign);
                space.push(2 * X32_BIT, beyond, 0);
                space.push(3 * X32_BIT, foreign, 0);
                // A tracer sets the number to -1 to skip a call.
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

    /// Appends the ranges of one architecture, whose numbers begin at `first`.
    fn fill(
        &mut self,
        filter: &Filter<'_>,
        builder: &mut Builder,
        arch: Arch,
        first: u32,
        calls: &Calls<'_, '_>,
    ) -> Result<(), Error> {
        let default = builder.action(filter.default);
        let allowed = builder.action(Action::Allow);
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
            let newer = builder.action(calls.newer);
            self.push(newest + 1, newer, 0);
        }
        Ok(())
    }

    /// Appends a range from `start`, which is not below the start of the last
    /// range.
    fn push(&mut self, start: u32, result: Id, weight: u32) {
        // The last range is empty.
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

    /// Builds the search for the range of the call's number, which has been
    /// loaded before.
    pub(crate) fn search(&self, builder: &mut Builder) -> Id {
        search(&self.ranges, builder)
    }
}

fn search(ranges: &[Range], builder: &mut Builder) -> Id {
    match ranges {
        [] => builder.action(Action::KillThread),
        [range] => range.result,
        // A single number between two ranges with the same result.
        [before, single, after]
            if before.result == after.result && after.start - single.start == 1 =>
        {
            builder.if_number(single.start, single.result, before.result)
        }
        ranges => {
            let (lower, upper) = ranges.split_at(middle(ranges));
            let start = upper[0].start;
            let (lower, upper) = (search(lower, builder), search(upper, builder));
            builder.if_at_least(start, upper, lower)
        }
    }
}

/// Returns the index at which to split `ranges` so that the weights of both
/// sides differ least.
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
            // As in runc, a call that socketcall(2) or ipc(2) carries does not
            // count as the newest.
            if multiplexed.is_none() {
                calls.newest = calls.newest.max(number);
            }
            if rule.action == filter.default {
                continue;
            }
            let direct = number.map(|number| (number, None));
            let carried = multiplexed.map(|by| (by.number, Some(by.call)));
            for (number, multiplexed) in carried.into_iter().chain(direct) {
                calls.entries.push(Entry {
                    number,
                    rule,
                    name,
                    multiplexed,
                });
            }
        }
        calls.entries.sort_by_key(|entry| entry.number);
        // A filter that names no call but number 0 does not mean that all
        // other calls are new.
        if filter.default.lets_pass() || calls.newest == Some(0) {
            calls.newest = None;
        }
        calls
    }
}

/// Builds the result of one call from its rules, which `entries` holds.
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
                return Ok(builder.action(entry.rule.action));
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
    /// Returns lists of conditions. The rule applies if all conditions of one of
    /// the lists hold.
    fn alternatives(&self, is_64_bit: bool) -> Vec<Vec<Condition>> {
        let conditions = &self.rule.conditions;
        let is_repeated = |index: u8| {
            let on_it = conditions.iter().filter(|other| other.index == index);
            on_it.count() > 1
        };
        if conditions
            .iter()
            .any(|condition| is_repeated(condition.index))
        {
            let each = conditions.iter();
            return each
                .map(|condition| self.complete(&[*condition], is_64_bit))
                .collect();
        }
        vec![self.complete(conditions, is_64_bit)]
    }

    /// Returns `conditions` without those that always hold. If socketcall(2) or
    /// ipc(2) carries the call, the condition that selects the call is added,
    /// and replaces any other on the first argument.
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
