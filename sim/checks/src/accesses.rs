//! Reads and writes of things whose states follow each other in one numbered sequence.
//!
//! The table of the set is at the id of its newest row, a register at its value: both only grow, by one write at a time. So each
//! operation has a position, and every question of freshness and order is a comparison of positions. Only operations that certainly
//! took effect, and whose position is known, are accesses; the others can be in nobody's way.

use std::collections::BTreeMap;
use std::fmt;

use crate::history::{Caller, Increment, Insert, Key, Moment, Operation, ReadRows, Tag, WriteId};
use crate::registers;
use crate::tables::{Table, tables};
use crate::violation::{Shown, Witness};
use crate::{FinalState, History};

/// What is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Object {
    Table,
    Register(Key),
}

/// One operation on one object.
pub(crate) struct Access<'a> {
    pub(crate) object: Object,
    pub(crate) caller: Caller,
    pub(crate) writes: bool,
    /// It saw, or wrote, at least this position, and at most that.
    pub(crate) low: i64,
    pub(crate) high: i64,
    pub(crate) invoked: Moment,
    /// When it was known to have taken effect; `None` for a write that was never acknowledged and was seen all the same.
    pub(crate) returned: Option<Moment>,
    pub(crate) operation: &'a dyn Shown,
}

impl<'a> Access<'a> {
    fn new<R: crate::Request>(
        operation: &'a Operation<R>,
        object: Object,
        writes: bool,
        [low, high]: [i64; 2],
    ) -> Self {
        Self {
            object,
            caller: operation.caller,
            writes,
            low,
            high,
            invoked: operation.invoked,
            returned: operation.answered().map(|(moment, _)| moment),
            operation,
        }
    }
}

impl Shown for Access<'_> {
    fn witness(&self) -> Witness {
        self.operation.witness()
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table => f.write_str("row"),
            Self::Register(key) => write!(f, "{key} value"),
        }
    }
}

/// All accesses of a run, to all objects.
pub(crate) fn accesses<'a>(history: &'a History, end: &FinalState) -> Vec<Access<'a>> {
    let mut accesses = set_writes(history, end);
    accesses.extend(history.set.reads.iter().filter_map(set_read));
    accesses.extend(register_writes(history, end));
    accesses.extend(history.registers.reads.iter().filter_map(|read| {
        let (_, found) = read.answered()?;
        let object = Object::Register(read.asked.key);
        Some(Access::new(read, object, false, [found.value; 2]))
    }));
    accesses
}

/// A read that found no rows may have seen any state up to where it began to look.
fn set_read(read: &Operation<ReadRows>) -> Option<Access<'_>> {
    let (_, rows) = read.answered()?;
    let seen = match rows.last() {
        Some(newest) => [newest.id; 2],
        None => [0, read.asked.after],
    };
    Some(Access::new(read, Object::Table, false, seen))
}

fn set_writes<'a>(history: &'a History, end: &FinalState) -> Vec<Access<'a>> {
    let found = positions(history, end);
    let position = |insert: &Operation<Insert>| {
        let told = insert.outcome.ok().and_then(|inserted| inserted.newest);
        told.or_else(|| found.get(&insert.asked.write).copied().flatten())
    };
    let inserts = history.set.inserts.iter();
    inserts
        .filter_map(|insert| {
            let newest = position(insert)?;
            Some(Access::new(insert, Object::Table, true, [newest; 2]))
        })
        .collect()
}

/// Where writes are whose clients were not told: as anybody saw them.
fn positions(history: &History, end: &FinalState) -> BTreeMap<WriteId, Option<i64>> {
    let untold = |insert: &&Operation<Insert>| match &insert.outcome {
        crate::Outcome::Ok(inserted) => inserted.newest.is_none(),
        outcome => !outcome.is_failed(),
    };
    let untold = history.set.inserts.iter().filter(untold);
    let mut found: BTreeMap<_, _> = untold.map(|insert| (insert.asked.write, None)).collect();
    if found.is_empty() {
        return found;
    }
    for Table { rows, .. } in tables(history, end) {
        for row in rows {
            if let Some(newest) = found.get_mut(&row.write) {
                *newest = Some(row.id - row.part + row.parts - 1);
            }
        }
    }
    found
}

fn register_writes<'a>(history: &'a History, end: &FinalState) -> Vec<Access<'a>> {
    let mut values: BTreeMap<(Key, Tag), i64> = BTreeMap::new();
    for (key, sighting) in registers::sightings(history, end) {
        let value = sighting.value;
        values.insert((key, value.tag), value.value);
        values
            .entry((key, value.replaced))
            .or_insert(value.value - 1);
    }
    let position = |increment: &Operation<Increment>| {
        let Increment { key, tag } = increment.asked;
        let value = *values.get(&(key, tag))?;
        (!increment.outcome.is_failed()).then_some((Object::Register(key), value))
    };
    let increments = history.registers.increments.iter();
    increments
        .filter_map(|increment| {
            let (object, value) = position(increment)?;
            Some(Access::new(increment, object, true, [value; 2]))
        })
        .collect()
}

/// An access that is behind another one which had ended before it began.
pub(crate) struct Behind<'t, 'a> {
    pub(crate) access: &'t Access<'a>,
    pub(crate) earlier: &'t Access<'a>,
}

/// Finds what goes back in real time.
///
/// `scope` tells accesses apart that have nothing to do with each other. An access that `checked` names must not be behind any access
/// of its scope that had returned before it was invoked: reads see at least its position, writes get a higher one.
pub(crate) fn behind<'t, 'a, K: Ord>(
    accesses: &'t [Access<'a>],
    scope: impl Fn(&Access<'a>) -> K,
    checked: impl Fn(&Access<'a>) -> bool,
) -> Vec<Behind<'t, 'a>> {
    let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * accesses.len());
    for (n, access) in accesses.iter().enumerate() {
        moments.push((access.invoked.order, true, n));
        moments.extend(access.returned.map(|returned| (returned.order, false, n)));
    }
    moments.sort_unstable();
    let mut newest: BTreeMap<K, &Access<'a>> = BTreeMap::new();
    let mut found = Vec::new();
    for (_, begins, n) in moments {
        let access = &accesses[n];
        if !begins {
            let newest = newest.entry(scope(access)).or_insert(access);
            if access.low > newest.low {
                *newest = access;
            }
            continue;
        }
        let earlier = newest.get(&scope(access)).copied();
        let earlier = earlier.filter(|earlier| checked(access) && goes_back(access, earlier));
        found.extend(earlier.map(|earlier| Behind { access, earlier }));
    }
    found
}

/// `access` began after `earlier` had ended.
pub(crate) fn goes_back(access: &Access<'_>, earlier: &Access<'_>) -> bool {
    if access.writes {
        access.high <= earlier.low
    } else {
        access.high < earlier.low
    }
}

impl Behind<'_, '_> {
    /// In one sentence.
    pub(crate) fn what(&self) -> String {
        let Self { access, earlier } = self;
        let object = access.object;
        let verb = |access: &Access<'_>| if access.writes { "wrote" } else { "saw" };
        format!(
            "{} {} {object} {}, but {object} {} had been {} before it began",
            access.operation.witness().id,
            verb(access),
            access.high,
            earlier.low,
            if earlier.writes {
                "acknowledged"
            } else {
                "seen"
            },
        )
    }
}
