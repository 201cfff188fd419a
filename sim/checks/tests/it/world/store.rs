//! What the correct system holds, at all versions.

use std::collections::BTreeMap;

use halite_checks::*;

#[derive(Default)]
pub(crate) struct Store {
    version: u64,
    rows: Vec<Row>,
    /// The version of each row.
    row_versions: Vec<u64>,
    /// By version.
    balances: Vec<(u64, BTreeMap<AccountId, i64>)>,
    ledger: Vec<LedgerRow>,
    lists: BTreeMap<Key, Vec<(u64, Element)>>,
    registers: BTreeMap<Key, Vec<(u64, RegisterValue)>>,
    /// Locks are only ever looked at where they are now.
    locks: BTreeMap<Key, Holder>,
}

impl Store {
    pub(crate) fn new(opening: BTreeMap<AccountId, i64>) -> Self {
        Self {
            balances: vec![(0, opening)],
            ..Self::default()
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The id of the last row.
    pub(crate) fn insert(&mut self, insert: Insert) -> i64 {
        self.version += 1;
        for part in 0..insert.parts {
            self.rows.push(Row {
                id: self.rows.len() as i64 + 1,
                write: insert.write,
                part,
                parts: insert.parts,
            });
            self.row_versions.push(self.version);
        }
        self.rows.len() as i64
    }

    pub(crate) fn transfer(&mut self, transfer: Transfer) {
        self.version += 1;
        let mut balances = self.balances_at(self.version);
        *balances.entry(transfer.from).or_default() -= transfer.amount;
        *balances.entry(transfer.to).or_default() += transfer.amount;
        self.balances.push((self.version, balances));
        self.ledger.push(transfer);
    }

    pub(crate) fn transact(&mut self, transaction: &ListTransaction) -> Vec<Vec<Element>> {
        self.version += 1;
        let mut reads = Vec::new();
        for step in &transaction.steps {
            match *step {
                Step::Append { key, element } => {
                    let list = self.lists.entry(key).or_default();
                    list.push((self.version, element));
                }
                Step::Read { key } => reads.push(self.list_at(key, self.version)),
            }
        }
        reads
    }

    pub(crate) fn increment(&mut self, increment: Increment) -> RegisterValue {
        let written = self
            .register_at(increment.key, self.version)
            .next(increment.tag);
        self.version += 1;
        let values = self.registers.entry(increment.key).or_default();
        values.push((self.version, written));
        written
    }

    pub(crate) fn lock(&mut self, request: LockRequest) -> LockAnswer {
        self.version += 1;
        let held = self.locks.remove(&request.key);
        let (held, told) = request.step.run(held);
        self.locks.extend(held.map(|holder| (request.key, holder)));
        told
    }

    pub(crate) fn rows_at(&self, version: u64) -> &[Row] {
        let seen = self
            .row_versions
            .partition_point(|of_row| *of_row <= version);
        &self.rows[..seen]
    }

    pub(crate) fn balances_at(&self, version: u64) -> BTreeMap<AccountId, i64> {
        let seen = self.balances.partition_point(|(of, _)| *of <= version);
        self.balances[seen - 1].1.clone()
    }

    pub(crate) fn list_at(&self, key: Key, version: u64) -> Vec<Element> {
        let list = self.lists.get(&key).map_or(&[][..], Vec::as_slice);
        let seen = list.iter().take_while(|(of, _)| *of <= version);
        seen.map(|(_, element)| *element).collect()
    }

    pub(crate) fn register_at(&self, key: Key, version: u64) -> RegisterValue {
        let values = self.registers.get(&key).map_or(&[][..], Vec::as_slice);
        let seen = values.iter().rfind(|(of, _)| *of <= version);
        seen.map_or(RegisterValue::INITIAL, |(_, value)| *value)
    }

    /// The end.
    pub(crate) fn contents(&self) -> Contents {
        let lists = self
            .lists
            .keys()
            .map(|key| (*key, self.list_at(*key, u64::MAX)));
        let registers = self.registers.keys();
        let registers = registers.map(|key| (*key, self.register_at(*key, u64::MAX)));
        Contents {
            rows: Some(self.rows.clone()),
            bank: Some(Bank {
                balances: self.balances_at(u64::MAX),
                ledger: self.ledger.clone(),
            }),
            lists: Some(lists.collect()),
            registers: Some(registers.collect()),
            locks: Some(self.locks.clone()),
        }
    }
}
