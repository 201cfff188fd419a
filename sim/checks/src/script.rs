//! Histories written down by hand, for the tests of the checks.

use std::collections::BTreeMap;

use crate::history::*;
use crate::property::Check;
use crate::{Bank, Contents, FinalState, Violation};

/// A run in the making. Each operation ends before the next begins, 100 microseconds later.
#[derive(Debug, Default, Clone)]
pub(crate) struct Script {
    pub(crate) history: History,
    pub(crate) end: FinalState,
    /// What the table holds if all goes well: acknowledged and unknown inserts.
    pub(crate) rows: Vec<Row>,
    pub(crate) now_us: u64,
}

impl Script {
    /// Its first operation begins 100 microseconds after this.
    pub(crate) fn at(now_us: u64) -> Self {
        Self {
            now_us,
            ..Self::default()
        }
    }

    pub(crate) fn check(&self, check: Check) -> Vec<Violation> {
        check(&self.history, &self.end)
    }

    pub(crate) fn begin<R: Request>(&mut self, session: u64, level: Level, asked: R) -> Ticket<R> {
        self.now_us += 100;
        let caller = Caller {
            session: SessionId(session),
            node: Some(NodeId(session % 3 + 1)),
            level,
        };
        self.history.invoke(caller, self.now_us, asked)
    }

    pub(crate) fn finish<R: Request>(&mut self, ticket: Ticket<R>, outcome: Outcome<R::Answer>) {
        self.now_us += 100;
        self.history.returned(ticket, self.now_us, outcome);
    }

    pub(crate) fn run<R: Request>(
        &mut self,
        session: u64,
        level: Level,
        asked: R,
        outcome: Outcome<R::Answer>,
    ) -> OperationId {
        let ticket = self.begin(session, level, asked);
        let id = ticket.id();
        self.finish(ticket, outcome);
        id
    }

    /// The session is the writer.
    pub(crate) fn insert(&mut self, writer: i64, seq: i64, parts: i64) -> OperationId {
        let newest = Some(self.append(writer, seq, parts));
        self.insert_with(writer, seq, parts, Outcome::Ok(Inserted { newest }))
    }

    /// It is kept.
    pub(crate) fn unknown_insert(&mut self, writer: i64, seq: i64, parts: i64) -> OperationId {
        self.append(writer, seq, parts);
        self.insert_with(writer, seq, parts, Outcome::Unknown("cut off".into()))
    }

    pub(crate) fn failed_insert(&mut self, writer: i64, seq: i64) -> OperationId {
        self.insert_with(writer, seq, 1, Outcome::Failed("refused".into()))
    }

    fn insert_with(
        &mut self,
        writer: i64,
        seq: i64,
        parts: i64,
        outcome: Outcome<Inserted>,
    ) -> OperationId {
        let write = WriteId { writer, seq };
        let asked = Insert { write, parts };
        self.run(writer as u64, Level::Linearizable, asked, outcome)
    }

    /// The table grows; the id of its last row.
    pub(crate) fn append(&mut self, writer: i64, seq: i64, parts: i64) -> i64 {
        for part in 0..parts {
            let id = self.rows.len() as i64 + 1;
            let write = WriteId { writer, seq };
            self.rows.push(Row {
                id,
                write,
                part,
                parts,
            });
        }
        self.rows.len() as i64
    }

    pub(crate) fn read(
        &mut self,
        session: u64,
        level: Level,
        after: i64,
        rows: &[Row],
    ) -> OperationId {
        let answer = Outcome::Ok(rows.to_vec());
        self.run(session, level, ReadRows { after }, answer)
    }

    /// Reads the first rows of the table.
    pub(crate) fn read_up_to(&mut self, session: u64, level: Level, newest: i64) -> OperationId {
        let rows = self.rows[..newest as usize].to_vec();
        self.read(session, level, 0, &rows)
    }

    pub(crate) fn increment(
        &mut self,
        session: u64,
        key: Key,
        tag: u64,
        written: RegisterValue,
    ) -> OperationId {
        let asked = Increment { key, tag: Tag(tag) };
        self.run(session, Level::Linearizable, asked, Outcome::Ok(written))
    }

    pub(crate) fn read_register(
        &mut self,
        session: u64,
        level: Level,
        key: Key,
        found: RegisterValue,
    ) -> OperationId {
        self.run(session, level, ReadRegister { key }, Outcome::Ok(found))
    }

    /// Three nodes hold the table.
    pub(crate) fn end(&mut self) {
        let rows = self.rows.clone();
        self.end_with(|contents| contents.rows = Some(rows.clone()));
    }

    pub(crate) fn end_bank(&mut self, balances: &[i64], ledger: &[LedgerRow]) {
        let bank = Bank {
            balances: Self::balances(balances),
            ledger: ledger.to_vec(),
        };
        self.end_with(|contents| contents.bank = Some(bank.clone()));
    }

    pub(crate) fn end_registers(&mut self, registers: &[(Key, RegisterValue)]) {
        let registers = registers.iter().copied().collect::<BTreeMap<_, _>>();
        self.end_with(|contents| contents.registers = Some(registers.clone()));
    }

    pub(crate) fn end_locks(&mut self, locks: &[(Key, Holder)]) {
        let locks = locks.iter().copied().collect::<BTreeMap<_, _>>();
        self.end_with(|contents| contents.locks = Some(locks.clone()));
    }

    pub(crate) fn end_lists(&mut self, lists: &[(u64, &[u64])]) {
        let lists = lists
            .iter()
            .map(|(key, list)| (Key(*key), Self::list(list)));
        let lists = lists.collect::<BTreeMap<_, _>>();
        self.end_with(|contents| contents.lists = Some(lists.clone()));
    }

    fn end_with(&mut self, set: impl Fn(&mut Contents)) {
        for node in 1..=3 {
            set(self.end.nodes.entry(NodeId(node)).or_default());
        }
    }

    /// A bank whose accounts, from 1, open with these balances.
    pub(crate) fn bank(opening: &[i64]) -> Self {
        let mut script = Self::default();
        script.history.bank.opening = Self::balances(opening);
        script
    }

    pub(crate) fn balances(balances: &[i64]) -> BTreeMap<AccountId, i64> {
        let accounts = (1..).map(AccountId);
        accounts.zip(balances.iter().copied()).collect()
    }

    pub(crate) fn list(elements: &[u64]) -> Vec<Element> {
        elements.iter().copied().map(Element).collect()
    }

    /// What a node holds in the end.
    pub(crate) fn node(&mut self, node: u64) -> &mut Vec<Row> {
        let contents = self.end.nodes.get_mut(&NodeId(node)).expect("a node");
        contents.rows.as_mut().expect("rows")
    }
}
