//! Whatever is wrong in one place of a good history is found, by the property that it breaks.

use halite_checks::*;
use proptest::prelude::*;

use crate::rng::Rng;
use crate::world::run;

/// A run in which one thing is to go wrong.
struct Subject {
    history: History,
    end: FinalState,
    rng: Rng,
}

/// Breaks something; `None` if there is nothing to break.
type Mutation = fn(&mut Subject) -> Option<()>;

const MUTATIONS: &[(&str, Mutation)] = &[
    ("acknowledged_is_kept", drop_acknowledged_write),
    ("acknowledged_is_kept", move_acknowledged_write),
    ("nothing_twice", repeat_write),
    ("nothing_torn", tear_read),
    ("failed_is_not_kept", fail_kept_write),
    ("nothing_invented", invent_row),
    ("nothing_vanishes", lose_what_was_read),
    ("nothing_vanishes", skip_row),
    ("nodes_agree", shorten_list_on_one_node),
    ("linearizable", read_stale_linearizable),
    ("linearizable", swap_order),
    ("linearizable", read_stale_register),
    ("linearizable_registers", read_stale_register),
    ("linearizable_locks", tell_stale_holder),
    ("session_guarantees", read_stale_in_session),
    ("bounded_lag", read_stale_bounded),
    ("bank_total", read_too_much_money),
    ("bank_ledger", lose_transfer),
    ("lost_update", lose_update),
    ("list_append", swap_elements),
    ("list_append", read_stale_list),
    ("list_append", fail_kept_append),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_planted_fault_is_found(seed: u64, which in 0..MUTATIONS.len()) {
        let (history, end) = run(seed, 800);
        let mut subject = Subject { history, end, rng: Rng(!seed) };
        let (property, mutation) = MUTATIONS[which];
        prop_assume!(mutation(&mut subject).is_some());
        let violations = check_all(&subject.history, &subject.end);
        let found = violations.iter().any(|violation| violation.property == property);
        prop_assert!(found, "seed={} property={} {:?}", seed, property, report(&violations));
    }
}

impl Subject {
    fn one<T: Copy>(&mut self, from: impl IntoIterator<Item = T>) -> Option<T> {
        let all: Vec<T> = from.into_iter().collect();
        self.rng.pick(&all)
    }

    fn node(&mut self, node: u64) -> Option<&mut Contents> {
        self.end.nodes.get_mut(&NodeId(node))
    }

    fn rows(&mut self, node: u64) -> Option<&mut Vec<Row>> {
        self.node(node)?.rows.as_mut()
    }

    fn each_table(&mut self, change: impl Fn(&mut Vec<Row>)) {
        for contents in self.end.nodes.values_mut() {
            contents.rows.iter_mut().for_each(&change);
        }
    }

    /// An acknowledged insert and the first id it has.
    fn acknowledged(&self) -> Vec<(usize, i64)> {
        let inserts = self.history.set.inserts.iter().enumerate();
        inserts
            .filter_map(|(n, insert)| {
                let newest = insert.outcome.ok()?.newest?;
                Some((n, newest - insert.asked.parts + 1))
            })
            .collect()
    }

    /// Makes a read end before the rows of an insert that it had to see.
    fn make_stale(
        &mut self,
        must_see: impl Fn(&Operation<ReadRows>, &Operation<Insert>) -> bool,
    ) -> Option<()> {
        let set = &self.history.set;
        let mut pairs = Vec::new();
        for (n, read) in set
            .reads
            .iter()
            .enumerate()
            .filter(|(_, read)| read.outcome.is_ok())
        {
            for (insert, first) in self.acknowledged() {
                if must_see(read, &set.inserts[insert]) {
                    pairs.push((n, first));
                }
            }
        }
        let (read, first) = self.one(pairs)?;
        let rows = self.rows(1)?[..first as usize - 1].to_vec();
        let read = &mut self.history.set.reads[read];
        read.asked.after = 0;
        read.outcome = Outcome::Ok(rows);
        Some(())
    }
}

/// `earlier` had returned before `later` was invoked.
fn precedes<A: Request, B: Request>(earlier: &Operation<A>, later: &Operation<B>) -> bool {
    earlier
        .returned
        .is_some_and(|returned| returned.order < later.invoked.order)
}

fn renumber(rows: &mut [Row]) {
    for (id, row) in (1..).zip(rows) {
        row.id = id;
    }
}

fn drop_acknowledged_write(subject: &mut Subject) -> Option<()> {
    let (insert, _) = subject.one(subject.acknowledged())?;
    let write = subject.history.set.inserts[insert].asked.write;
    subject.rows(2)?.retain(|row| row.write != write);
    Some(())
}

fn move_acknowledged_write(subject: &mut Subject) -> Option<()> {
    let (insert, _) = subject.one(subject.acknowledged())?;
    let parts = subject.history.set.inserts[insert].asked.parts;
    subject.each_table(|rows| {
        // As if another write had come first.
        let write = WriteId { writer: 99, seq: 1 };
        let row = |part| Row {
            id: 0,
            write,
            part,
            parts,
        };
        rows.splice(0..0, (0..parts).map(row));
        renumber(rows);
    });
    Some(())
}

fn repeat_write(subject: &mut Subject) -> Option<()> {
    let table = subject.rows(1)?.clone();
    let write = subject.one(table.iter().map(|row| row.write))?;
    subject.each_table(|rows| {
        let again: Vec<Row> = rows
            .iter()
            .copied()
            .filter(|row| row.write == write)
            .collect();
        rows.extend(again);
        renumber(rows);
    });
    Some(())
}

fn tear_read(subject: &mut Subject) -> Option<()> {
    let ends_in_a_later_part = |read: &Operation<ReadRows>| {
        let rows = read.outcome.ok()?;
        (rows.len() > 1 && rows.last()?.part > 0).then_some(())
    };
    let reads = &subject.history.set.reads;
    let torn: Vec<usize> = (0..reads.len())
        .filter(|n| ends_in_a_later_part(&reads[*n]).is_some())
        .collect();
    let read = subject.one(torn)?;
    if let Outcome::Ok(rows) = &mut subject.history.set.reads[read].outcome {
        rows.pop();
    }
    Some(())
}

fn fail_kept_write(subject: &mut Subject) -> Option<()> {
    let table = subject.rows(1)?.clone();
    let write = subject.one(table.iter().map(|row| row.write))?;
    let insert = subject
        .history
        .set
        .inserts
        .iter_mut()
        .find(|insert| insert.asked.write == write)?;
    insert.outcome = Outcome::Failed("planted".into());
    Some(())
}

fn invent_row(subject: &mut Subject) -> Option<()> {
    let rows = subject.rows(3)?.len() as u64;
    let n = subject.rng.below(rows.max(1)) as usize;
    subject.rows(3)?.get_mut(n)?.write.writer = 99;
    Some(())
}

fn lose_what_was_read(subject: &mut Subject) -> Option<()> {
    let newest = |read: &Operation<ReadRows>| Some(read.outcome.ok()?.last()?.id);
    let newest: Vec<i64> = subject
        .history
        .set
        .reads
        .iter()
        .filter_map(newest)
        .collect();
    let newest = subject.one(newest)?;
    subject.each_table(|rows| rows.truncate(newest as usize - 1));
    Some(())
}

fn skip_row(subject: &mut Subject) -> Option<()> {
    let reads = &subject.history.set.reads;
    let long = |n: &usize| reads[*n].outcome.ok().is_some_and(|rows| rows.len() > 1);
    let read = subject.one((0..reads.len()).filter(long).collect::<Vec<_>>())?;
    if let Outcome::Ok(rows) = &mut subject.history.set.reads[read].outcome {
        let n = subject.rng.below(rows.len() as u64 - 1);
        rows.remove(n as usize);
    }
    Some(())
}

fn shorten_list_on_one_node(subject: &mut Subject) -> Option<()> {
    let lists = subject.node(2)?.lists.as_mut()?;
    lists.values_mut().find(|list| !list.is_empty())?.pop();
    Some(())
}

fn read_stale_linearizable(subject: &mut Subject) -> Option<()> {
    subject.make_stale(|read, insert| {
        read.caller.level == Level::Linearizable && precedes(insert, read)
    })
}

fn read_stale_in_session(subject: &mut Subject) -> Option<()> {
    subject.make_stale(|read, insert| {
        let same = read.caller.session == insert.caller.session;
        same && read.caller.level == Level::Session && precedes(insert, read)
    })
}

fn read_stale_bounded(subject: &mut Subject) -> Option<()> {
    subject.make_stale(|read, insert| match (read.caller.level, insert.returned) {
        (Level::Bounded { max_lag_us }, Some(returned)) => {
            returned.at_us + max_lag_us < read.invoked.at_us
        }
        _ => false,
    })
}

/// Nobody read anything, nobody was told an id, and still two writes are the wrong way round.
fn swap_order(subject: &mut Subject) -> Option<()> {
    let table = subject.rows(1)?.clone();
    let inserts = &subject.history.set.inserts;
    let insert = |write| inserts.iter().find(|insert| insert.asked.write == write);
    let swapped = |pair: &[Row]| {
        let (earlier, later) = (insert(pair[0].write)?, insert(pair[1].write)?);
        (earlier.outcome.is_ok() && precedes(earlier, later))
            .then_some([pair[0].write, pair[1].write])
    };
    let pairs: Vec<_> = table.windows(2).filter_map(swapped).collect();
    let [earlier, later] = subject.one(pairs)?;
    subject.each_table(|rows| {
        let place = |row: &Row| {
            let write = match row.write {
                write if write == earlier => later,
                write if write == later => earlier,
                write => write,
            };
            table.iter().position(|row| row.write == write)
        };
        rows.sort_by_key(place);
        renumber(rows);
    });
    subject.history.set.reads.clear();
    for insert in &mut subject.history.set.inserts {
        if let Outcome::Ok(inserted) = &mut insert.outcome {
            inserted.newest = None;
        }
    }
    Some(())
}

fn read_stale_register(subject: &mut Subject) -> Option<()> {
    let registers = &subject.history.registers;
    let stale = |n: &usize| {
        let read = &registers.reads[*n];
        let mut writes = registers
            .increments
            .iter()
            .filter(|write| write.asked.key == read.asked.key);
        let strict = read.caller.level == Level::Linearizable && read.outcome.is_ok();
        strict && writes.any(|write| write.outcome.is_ok() && precedes(write, read))
    };
    let read = subject.one((0..registers.reads.len()).filter(stale).collect::<Vec<_>>())?;
    subject.history.registers.reads[read].outcome = Outcome::Ok(RegisterValue::INITIAL);
    Some(())
}

/// A client is told that somebody has a lock who never had it.
fn tell_stale_holder(subject: &mut Subject) -> Option<()> {
    let locks = &subject.history.locks;
    let told = |n: &usize| matches!(locks[*n].outcome, Outcome::Ok(LockAnswer::Held(_)));
    let told = subject.one((0..locks.len()).filter(told).collect::<Vec<_>>())?;
    let nobody = LockAnswer::Held(Some(Holder(u64::MAX)));
    subject.history.locks[told].outcome = Outcome::Ok(nobody);
    Some(())
}

fn lose_update(subject: &mut Subject) -> Option<()> {
    let increments = &subject.history.registers.increments;
    let mut pairs = Vec::new();
    for (n, later) in increments.iter().enumerate() {
        for earlier in increments
            .iter()
            .filter(|earlier| earlier.asked.key == later.asked.key)
        {
            if let (Some(first), Some(second)) = (earlier.outcome.ok(), later.outcome.ok())
                && second.replaced == first.tag
            {
                pairs.push((n, *first));
            }
        }
    }
    let (later, first) = subject.one(pairs)?;
    let later = &mut subject.history.registers.increments[later];
    later.outcome = Outcome::Ok(RegisterValue {
        tag: later.asked.tag,
        ..first
    });
    Some(())
}

fn read_too_much_money(subject: &mut Subject) -> Option<()> {
    let reads = &subject.history.bank.reads;
    let read = subject.one(
        (0..reads.len())
            .filter(|n| reads[*n].outcome.is_ok())
            .collect::<Vec<_>>(),
    )?;
    if let Outcome::Ok(balances) = &mut subject.history.bank.reads[read].outcome {
        *balances.values_mut().next()? += 1;
    }
    Some(())
}

fn lose_transfer(subject: &mut Subject) -> Option<()> {
    let transfers = subject.history.bank.transfers.iter();
    let acknowledged: Vec<_> = transfers
        .filter(|transfer| transfer.outcome.is_ok())
        .map(|transfer| transfer.asked.id)
        .collect();
    let lost = subject.one(acknowledged)?;
    let bank = subject.node(1)?.bank.as_mut()?;
    bank.ledger.retain(|row| row.id != lost);
    Some(())
}

fn swap_elements(subject: &mut Subject) -> Option<()> {
    let lists = &subject.history.lists;
    let long = |n: &usize| {
        lists[*n]
            .outcome
            .ok()
            .is_some_and(|reads| reads.iter().any(|list| list.len() > 1))
    };
    let read = subject.one((0..lists.len()).filter(long).collect::<Vec<_>>())?;
    if let Outcome::Ok(reads) = &mut subject.history.lists[read].outcome {
        reads.iter_mut().find(|list| list.len() > 1)?.swap(0, 1);
    }
    Some(())
}

/// A linearizable read misses the last element, which had been acknowledged before.
fn read_stale_list(subject: &mut Subject) -> Option<()> {
    let lists = &subject.history.lists;
    let writer = |key: Key, element: Element| {
        let append = Step::Append { key, element };
        lists
            .iter()
            .find(|transaction| transaction.asked.steps.contains(&append))
    };
    let mut stale = Vec::new();
    for (n, transaction) in lists.iter().enumerate() {
        let Some(reads) = transaction.outcome.ok() else {
            continue;
        };
        if transaction.asked.appends() || transaction.caller.level != Level::Linearizable {
            continue;
        }
        for (read, (step, list)) in transaction.asked.steps.iter().zip(reads).enumerate() {
            if let (Step::Read { key }, Some(last)) = (step, list.last())
                && writer(*key, *last)
                    .is_some_and(|writer| writer.outcome.is_ok() && precedes(writer, transaction))
            {
                stale.push((n, read));
            }
        }
    }
    let (transaction, read) = subject.one(stale)?;
    if let Outcome::Ok(reads) = &mut subject.history.lists[transaction].outcome {
        reads[read].pop();
    }
    Some(())
}

fn fail_kept_append(subject: &mut Subject) -> Option<()> {
    let lists = &subject.history.lists;
    let kept = |n: &usize| lists[*n].outcome.is_ok() && lists[*n].asked.appends();
    let failed = subject.one((0..lists.len()).filter(kept).collect::<Vec<_>>())?;
    subject.history.lists[failed].outcome = Outcome::Failed("planted".into());
    Some(())
}
