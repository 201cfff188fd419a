//! A correct system: one place that takes writes one after the other, and clients that ask, wait, give up and die at random.
//!
//! Every write gets the next version; a read sees the state at one version, as old as its level allows.

mod store;

use std::collections::BTreeMap;

use halite_checks::*;

use crate::rng::Rng;
use store::Store;

pub(crate) const KEYS: u64 = 6;
pub(crate) const ACCOUNTS: u64 = 4;
const CLIENTS: u64 = 8;
const MAX_LAG_US: u64 = 400;

/// An operation under way. A write keeps what it will be told once it has taken effect; a read has its answer from then on.
enum Pending {
    Insert(Ticket<Insert>, Insert, Option<Inserted>),
    Transfer(Ticket<Transfer>, Transfer, bool),
    Lists(
        Ticket<ListTransaction>,
        ListTransaction,
        Option<Vec<Vec<Element>>>,
    ),
    Increment(Ticket<Increment>, Increment, Option<RegisterValue>),
    Lock(Ticket<LockRequest>, LockRequest, Option<LockAnswer>),
    ReadRows(Ticket<ReadRows>, Vec<Row>),
    ReadBalances(Ticket<ReadBalances>, BTreeMap<AccountId, i64>),
    ReadLists(Ticket<ListTransaction>, Vec<Vec<Element>>),
    ReadRegister(Ticket<ReadRegister>, RegisterValue),
}

/// A write that its client has given up.
enum Limbo {
    Insert(Insert),
    Transfer(Transfer),
    Lists(ListTransaction),
    Increment(Increment),
    Lock(LockRequest),
}

/// How a client stops waiting for a write that has not taken effect.
#[derive(Clone, Copy, PartialEq)]
enum GivesUp {
    Refused,
    CutOff,
    /// It does not even say so.
    Dies,
}

impl GivesUp {
    fn tell<R: Request>(self, history: &mut History, now_us: u64, ticket: Ticket<R>) {
        let outcome = match self {
            Self::Refused => Outcome::Failed("refused".to_owned()),
            Self::CutOff => Outcome::Unknown("cut off".to_owned()),
            Self::Dies => return,
        };
        history.returned(ticket, now_us, outcome);
    }
}

#[derive(Default)]
struct Client {
    pending: Option<Pending>,
    /// The version that the pending operation took effect at or read.
    version: Option<u64>,
    /// The newest version that the session was told of.
    floor: u64,
    writes: i64,
}

pub(crate) struct World {
    pub(crate) history: History,
    rng: Rng,
    now_us: u64,
    store: Store,
    clients: Vec<Client>,
    limbo: Vec<Limbo>,
    /// When which version was acknowledged.
    acknowledged: Vec<(u64, u64)>,
    numbers: u64,
}

/// What a correct system leaves behind after so many steps of its clients.
pub(crate) fn run(seed: u64, steps: usize) -> (History, FinalState) {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
    }
    world.end()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut history = History::default();
        let accounts = (1..=ACCOUNTS).map(AccountId);
        history.bank.opening = accounts.map(|account| (account, 100)).collect();
        Self {
            store: Store::new(history.bank.opening.clone()),
            history,
            rng: Rng(seed),
            now_us: 1,
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            limbo: Vec::new(),
            acknowledged: Vec::new(),
            numbers: 0,
        }
    }

    fn step(&mut self) {
        // The clock of a simulation stands still most of the time.
        if self.rng.percent(40) {
            self.now_us += self.rng.below(60);
        }
        if !self.limbo.is_empty() && self.rng.percent(5) {
            let n = self.rng.below(self.limbo.len() as u64) as usize;
            let write = self.limbo.swap_remove(n);
            self.apply_late(write);
        }
        let n = self.rng.below(CLIENTS) as usize;
        let mut client = std::mem::take(&mut self.clients[n]);
        match (client.pending.take(), client.version) {
            (None, _) => self.begin(n as u64, &mut client),
            (Some(pending), None) => self.take_effect(pending, &mut client),
            (Some(pending), Some(version)) => self.finish(pending, version, &mut client),
        }
        self.clients[n] = client;
    }

    fn begin(&mut self, session: u64, client: &mut Client) {
        let level = match self.rng.below(4) {
            0 => Level::Local,
            1 => Level::Session,
            2 => Level::Bounded {
                max_lag_us: MAX_LAG_US,
            },
            _ => Level::Linearizable,
        };
        let caller = Caller {
            session: SessionId(session),
            node: Some(NodeId(self.rng.between(1, 3))),
            level,
        };
        let kind = self.rng.below(9);
        let pending = if kind < 4 || kind == 8 {
            let level = Level::Linearizable;
            self.begin_write(kind, Caller { level, ..caller }, client)
        } else {
            let (pending, version) = self.begin_read(kind, caller, client.floor);
            client.version = Some(version);
            pending
        };
        client.pending = Some(pending);
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn key(&mut self) -> Key {
        // Old lists and registers are left alone after a while, so that they do not grow for ever.
        Key(self.rng.below(KEYS) + self.numbers / 500 * KEYS)
    }

    fn begin_write(&mut self, kind: u64, caller: Caller, client: &mut Client) -> Pending {
        match kind {
            0 => {
                client.writes += 1;
                let write = WriteId {
                    writer: caller.session.0 as i64,
                    seq: client.writes,
                };
                let parts = self.rng.between(1, 4) as i64;
                let insert = Insert { write, parts };
                let ticket = self.history.invoke(caller, self.now_us, insert);
                Pending::Insert(ticket, insert, None)
            }
            1 => {
                let transfer = Transfer {
                    id: TransferId(self.number()),
                    from: AccountId(self.rng.between(1, ACCOUNTS)),
                    to: AccountId(self.rng.between(1, ACCOUNTS)),
                    amount: self.rng.between(1, 9) as i64,
                };
                let ticket = self.history.invoke(caller, self.now_us, transfer);
                Pending::Transfer(ticket, transfer, false)
            }
            2 => {
                let steps = (0..self.rng.between(1, 4)).map(|n| self.list_step(n == 0));
                let steps = steps.collect();
                let transaction = ListTransaction { steps };
                let ticket = self
                    .history
                    .invoke(caller, self.now_us, transaction.clone());
                Pending::Lists(ticket, transaction, None)
            }
            8 => {
                let key = self.key();
                let step = self.lock_step();
                let request = LockRequest { key, step };
                let ticket = self.history.invoke(caller, self.now_us, request);
                Pending::Lock(ticket, request, None)
            }
            _ => {
                let increment = Increment {
                    key: self.key(),
                    tag: Tag(self.number()),
                };
                let ticket = self.history.invoke(caller, self.now_us, increment);
                Pending::Increment(ticket, increment, None)
            }
        }
    }

    /// Holders that somebody may have heard of, so that some steps are done and some are not.
    fn lock_step(&mut self) -> LockStep {
        let recent = |world: &mut Self| Holder(world.numbers.saturating_sub(world.rng.below(12)));
        match self.rng.below(6) {
            0 => LockStep::Take(Holder(self.number())),
            1 => LockStep::Settle(Holder(self.number())),
            2 => LockStep::Release(recent(self)),
            3 => LockStep::Look,
            4 => {
                let holder = recent(self);
                LockStep::Pass {
                    from: holder,
                    to: holder,
                }
            }
            _ => LockStep::Pass {
                from: recent(self),
                to: Holder(self.number()),
            },
        }
    }

    fn list_step(&mut self, append: bool) -> Step {
        let key = self.key();
        if append || self.rng.percent(50) {
            let element = Element(self.number());
            Step::Append { key, element }
        } else {
            Step::Read { key }
        }
    }

    /// Reads take effect at once, and return some time later.
    fn begin_read(&mut self, kind: u64, caller: Caller, session_floor: u64) -> (Pending, u64) {
        let now = self.store.version();
        let floor = match caller.level {
            Level::Linearizable => now,
            Level::Session => session_floor,
            Level::Bounded { max_lag_us } => self.acknowledged_before(max_lag_us),
            Level::Local => 0,
        };
        let version = self.rng.between(floor.max(now.saturating_sub(30)), now);
        let now_us = self.now_us;
        let pending = match kind {
            4 => {
                let newest = self.store.rows_at(version).len() as u64;
                let after = newest.saturating_sub(self.rng.below(20)) as i64;
                let rows = self.store.rows_at(version)[after as usize..].to_vec();
                let asked = ReadRows { after };
                Pending::ReadRows(self.history.invoke(caller, now_us, asked), rows)
            }
            5 => {
                let balances = self.store.balances_at(version);
                let ticket = self.history.invoke(caller, now_us, ReadBalances);
                Pending::ReadBalances(ticket, balances)
            }
            6 => {
                let keys = [self.key(), self.key()];
                let lists = keys.map(|key| self.store.list_at(key, version)).to_vec();
                let steps = keys.map(|key| Step::Read { key }).to_vec();
                let asked = ListTransaction { steps };
                Pending::ReadLists(self.history.invoke(caller, now_us, asked), lists)
            }
            _ => {
                let key = self.key();
                let value = self.store.register_at(key, version);
                let asked = ReadRegister { key };
                Pending::ReadRegister(self.history.invoke(caller, now_us, asked), value)
            }
        };
        (pending, version)
    }

    fn acknowledged_before(&self, max_lag_us: u64) -> u64 {
        let horizon_us = self.now_us.saturating_sub(max_lag_us);
        let older = self
            .acknowledged
            .iter()
            .filter(|(at_us, _)| *at_us < horizon_us);
        older.map(|(_, version)| *version).max().unwrap_or(0)
    }

    /// A write takes effect, or is refused, or its client does not wait for it.
    fn take_effect(&mut self, pending: Pending, client: &mut Client) {
        let draw = self.rng.below(100);
        match draw {
            0..8 => return self.give_up(pending, GivesUp::Refused),
            8..14 => return self.give_up(pending, GivesUp::CutOff),
            14..20 => return self.give_up(pending, GivesUp::Dies),
            _ => {}
        }
        client.version = Some(self.store.version() + 1);
        client.pending = Some(match pending {
            Pending::Insert(ticket, insert, _) => {
                let newest = Some(self.store.insert(insert));
                let newest = newest.filter(|_| self.rng.percent(90));
                Pending::Insert(ticket, insert, Some(Inserted { newest }))
            }
            Pending::Transfer(ticket, transfer, _) => {
                self.store.transfer(transfer);
                Pending::Transfer(ticket, transfer, true)
            }
            Pending::Lists(ticket, transaction, _) => {
                let reads = self.store.transact(&transaction);
                Pending::Lists(ticket, transaction, Some(reads))
            }
            Pending::Increment(ticket, increment, _) => {
                let written = self.store.increment(increment);
                Pending::Increment(ticket, increment, Some(written))
            }
            Pending::Lock(ticket, request, _) => {
                let told = self.store.lock(request);
                Pending::Lock(ticket, request, Some(told))
            }
            read => read,
        });
    }

    /// The client stops waiting. Unless the write was refused it may take effect later.
    fn give_up(&mut self, pending: Pending, how: GivesUp) {
        let (history, now_us) = (&mut self.history, self.now_us);
        let write = match pending {
            Pending::Insert(ticket, insert, _) => {
                how.tell(history, now_us, ticket);
                Limbo::Insert(insert)
            }
            Pending::Transfer(ticket, transfer, _) => {
                how.tell(history, now_us, ticket);
                Limbo::Transfer(transfer)
            }
            Pending::Lists(ticket, transaction, _) => {
                how.tell(history, now_us, ticket);
                Limbo::Lists(transaction)
            }
            Pending::Increment(ticket, increment, _) => {
                how.tell(history, now_us, ticket);
                Limbo::Increment(increment)
            }
            Pending::Lock(ticket, request, _) => {
                how.tell(history, now_us, ticket);
                Limbo::Lock(request)
            }
            _ => return,
        };
        if how != GivesUp::Refused {
            self.limbo.push(write);
        }
    }

    fn apply_late(&mut self, write: Limbo) {
        match write {
            Limbo::Insert(insert) => drop(self.store.insert(insert)),
            Limbo::Transfer(transfer) => self.store.transfer(transfer),
            Limbo::Lists(transaction) => drop(self.store.transact(&transaction)),
            Limbo::Increment(increment) => drop(self.store.increment(increment)),
            Limbo::Lock(request) => drop(self.store.lock(request)),
        }
    }

    fn finish(&mut self, pending: Pending, version: u64, client: &mut Client) {
        client.version = None;
        let known = self.rng.percent(92);
        let (history, now_us) = (&mut self.history, self.now_us);
        let (writes, known) = match pending {
            Pending::Insert(ticket, _, told) => (
                true,
                answer(history, now_us, ticket, told.filter(|_| known)),
            ),
            Pending::Transfer(ticket, _, done) => (
                true,
                answer(history, now_us, ticket, (done && known).then_some(())),
            ),
            Pending::Lists(ticket, _, told) => (
                true,
                answer(history, now_us, ticket, told.filter(|_| known)),
            ),
            Pending::Increment(ticket, _, told) => (
                true,
                answer(history, now_us, ticket, told.filter(|_| known)),
            ),
            Pending::Lock(ticket, _, told) => (
                true,
                answer(history, now_us, ticket, told.filter(|_| known)),
            ),
            Pending::ReadRows(ticket, seen) => (
                false,
                answer(history, now_us, ticket, known.then_some(seen)),
            ),
            Pending::ReadBalances(ticket, seen) => (
                false,
                answer(history, now_us, ticket, known.then_some(seen)),
            ),
            Pending::ReadLists(ticket, seen) => (
                false,
                answer(history, now_us, ticket, known.then_some(seen)),
            ),
            Pending::ReadRegister(ticket, seen) => (
                false,
                answer(history, now_us, ticket, known.then_some(seen)),
            ),
        };
        if known {
            client.floor = client.floor.max(version);
        }
        if writes && known {
            self.acknowledged.push((now_us, version));
        }
    }

    fn end(self) -> (History, FinalState) {
        let mut end = FinalState::default();
        for node in 1..=3 {
            end.nodes.insert(NodeId(node), self.store.contents());
        }
        (self.history, end)
    }
}

/// True if it was told what it asked for.
fn answer<R: Request>(
    history: &mut History,
    now_us: u64,
    ticket: Ticket<R>,
    told: Option<R::Answer>,
) -> bool {
    let known = told.is_some();
    let unknown = || Outcome::Unknown("cut off".to_owned());
    history.returned(ticket, now_us, told.map_or_else(unknown, Outcome::Ok));
    known
}
