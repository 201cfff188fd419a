//! [`Read`]: a read that has begun. It runs on a thread until it is over, or has to wait: then it is a value that can be put aside, with its
//! connection and the statement it stands in, and goes on later on any thread.

use std::sync::Arc;

use halite_pager::Cursor;
use halite_proto::v1;
use rusqlite::{Connection, ffi};

use super::ReadJob;
use super::link::{Control, Link, closing};
use crate::database::guard::{Guard, Mode};
use crate::database::reply::{CallResults, Room, RoomWaiter};
use crate::database::{failure, pragma, statement};

/// A reply carries about this many bytes of rows at most, unless a single row is larger.
const PIECE_BYTES: usize = 64 << 10;
/// A reply carries this many rows at most.
const PIECE_ROWS: usize = 512;

/// A job, the connection it has, and how far it is.
pub(super) struct Read {
    pub(super) job: ReadJob,
    /// It may run for long.
    pub(super) long: bool,
    place: Option<Place>,
    guard: Guard,
    control: Arc<Control>,
    generation: u64,
    /// The statement that runs, or is next.
    index: usize,
    pieces: Pieces,
}

/// Where the connection is. `None` in its stead: it was lost with an error.
enum Place {
    Between(Box<Connection>),
    Within(Cursor),
}

/// Why a read stopped.
pub(super) enum Stop {
    /// It is answered.
    Over,
    /// Its receiver takes no more for now.
    NoRoom,
    /// Its receiver is gone.
    Gone,
    /// It has had its turn, and others wait.
    Turn,
}

/// Who is asked between two pieces.
pub(super) struct Between<'a> {
    pub(super) waiter: &'a Arc<dyn RoomWaiter>,
    /// Nobody takes anything before the read is done: there is no room to wait for.
    pub(super) lockstep: bool,
    /// The read should make room for others.
    pub(super) turn_is_over: &'a dyn Fn() -> bool,
}

impl Read {
    pub(super) fn begin(job: ReadJob, long: bool, link: Link) -> Read {
        Read {
            job,
            long,
            place: Some(Place::Between(link.connection)),
            guard: link.guard,
            control: link.control,
            generation: link.generation,
            index: 0,
            pieces: Pieces::default(),
        }
    }

    pub(super) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Whether its receiver takes more.
    pub(super) fn room(&self, waiter: &Arc<dyn RoomWaiter>) -> Room {
        self.job.reply.sink.room(waiter)
    }

    /// Ends the read where it is, and gives its connection back if that is as good as before.
    pub(super) fn end(mut self) -> Option<Link> {
        let connection = self.leave()?;
        if !connection.is_autocommit() && connection.execute_batch("COMMIT").is_err() {
            return None;
        }
        Some(Link::again(
            connection,
            self.guard,
            self.control,
            self.generation,
        ))
    }

    /// It waits for its receiver: what its connection remembers of the file is read again when it goes on.
    pub(super) fn release_memory(&self) {
        if let Some(Place::Within(cursor)) = &self.place
            && let Err(error) = cursor.release_memory()
        {
            tracing::debug!(%error, "a read that waits keeps its memory");
        }
    }

    /// Goes on until the read is over or has to wait. After an error it is to be ended.
    pub(super) fn go_on(&mut self, between: &Between<'_>) -> Result<Stop, v1::Error> {
        let went = self.run(between);
        match went {
            Err(_) if self.control.stopped() => Err(closing()),
            other => other,
        }
    }

    fn run(&mut self, between: &Between<'_>) -> Result<Stop, v1::Error> {
        let guard = self.guard.clone();
        // One snapshot for all of them.
        let several = self.job.statements.len() > 1;
        loop {
            if self.control.stopped() {
                return Err(closing());
            }
            let running = matches!(self.place, Some(Place::Within(_)));
            if !running && self.index == self.job.statements.len() {
                if several {
                    self.own("COMMIT")?;
                }
                let last = std::mem::take(&mut self.pieces.current);
                let mut gathered = self.control.gathered.lock();
                gathered.push(&self.job.reply, Ok(last), false);
                return Ok(Stop::Over);
            }
            if !running && several && self.index == 0 {
                self.own("BEGIN")?;
            }
            let terms = self.job.terms();
            let ran = guard.armed(Mode::Caller, &terms, || self.statement(between));
            match ran {
                Err(error) if error.sqlite_code == ffi::SQLITE_ERROR => {
                    return Err(self.at(self.proven(error)));
                }
                Err(error) => return Err(self.at(error)),
                Ok(Some(stop)) => return Ok(stop),
                Ok(None) => self.index += 1,
            }
        }
    }

    fn at(&self, error: v1::Error) -> v1::Error {
        v1::Error {
            statement_index: self.index as u32,
            ..error
        }
    }

    fn own(&self, sql: &str) -> Result<(), v1::Error> {
        let Some(Place::Between(connection)) = &self.place else {
            return Err(closing());
        };
        connection
            .execute_batch(sql)
            .map_err(|error| statement::explain(error, &self.guard))
    }

    /// Runs the statement at hand, or goes on with it; `None` when it has given all its rows.
    fn statement(&mut self, between: &Between<'_>) -> Result<Option<Stop>, v1::Error> {
        let mut cursor = match self.place.take() {
            Some(Place::Within(cursor)) => cursor,
            Some(Place::Between(connection)) => self.prepare(connection)?,
            None => return Err(closing()),
        };
        let stepped = self.step(&mut cursor, between);
        self.place = Some(match stepped {
            Ok(Some(_)) => Place::Within(cursor),
            _ => Place::Between(cursor.close()),
        });
        stepped
    }

    fn prepare(&mut self, connection: Box<Connection>) -> Result<Cursor, v1::Error> {
        if let Err(error) = pragma::check_effect(&self.job.statements) {
            self.place = Some(Place::Between(connection));
            return Err(error);
        }
        let text = &self.job.statements[self.index];
        let opened = statement::open(connection, &self.guard, text);
        let opened = opened.and_then(|cursor| {
            let reads = statement::only_reads(cursor.statement(), &text.sql);
            if reads && !pragma::is_for_the_writer(&text.sql) {
                Ok(cursor)
            } else {
                Err((cursor.close(), failure::not_read_only()))
            }
        });
        match opened {
            Ok(cursor) => {
                self.pieces.saw = false;
                Ok(cursor)
            }
            Err((connection, error)) => {
                self.place = Some(Place::Between(connection));
                Err(error)
            }
        }
    }

    fn step(
        &mut self,
        cursor: &mut Cursor,
        between: &Between<'_>,
    ) -> Result<Option<Stop>, v1::Error> {
        loop {
            let row = cursor.next(statement::read_row);
            let is_first = !self.pieces.saw;
            if is_first {
                let columns = statement::columns(cursor.statement());
                self.pieces.begin_statement(self.index, columns);
            }
            let row = row.map_err(|error| statement::explain(error, &self.guard))?;
            if is_first {
                // What the first step can see is covered by what is shown after it.
                self.pieces.saw(self.job.database.shared.seen_up_to());
            }
            let Some(row) = row else {
                return Ok(None);
            };
            let (row, bytes) = row?;
            let Some(piece) = self.pieces.push(row, bytes) else {
                continue;
            };
            self.send(piece);
            if let Some(stop) = self.pause(between) {
                return Ok(Some(stop));
            }
        }
    }

    /// Everything that is gathered goes out with it: others may be waiting for it.
    fn send(&self, piece: CallResults) {
        let mut gathered = self.control.gathered.lock();
        gathered.push(&self.job.reply, Ok(piece), true);
        gathered.send();
    }

    fn pause(&self, between: &Between<'_>) -> Option<Stop> {
        if between.lockstep {
            return None;
        }
        match self.room(between.waiter) {
            Room::None => Some(Stop::NoRoom),
            Room::Gone => Some(Stop::Gone),
            Room::Some if (between.turn_is_over)() => Some(Stop::Turn),
            Room::Some => None,
        }
    }

    /// Closes the statement that is open, if any, and takes the connection.
    fn leave(&mut self) -> Option<Box<Connection>> {
        Some(match self.place.take()? {
            Place::Between(connection) => connection,
            Place::Within(cursor) => cursor.close(),
        })
    }

    /// SQLite looks names up in the schema it remembers, and keeps to it when the file cannot be read: then a table that was created meanwhile
    /// seems not to be there. What the disk says counts more. And a statement that it has prepared for another schema fails in its first step,
    /// without a word of where in the text: prepared for what is there now, it says so.
    fn proven(&self, error: v1::Error) -> v1::Error {
        let Some(Place::Between(connection)) = &self.place else {
            return error;
        };
        let version = connection.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0));
        match version {
            Ok(_) => {
                // As the cache of statements takes it.
                let text = self.job.statements[self.index].sql.trim();
                let now = connection.prepare(text).map(drop);
                now.map_or_else(|now| statement::explain(now, &self.guard), |()| error)
            }
            Err(unreadable) => statement::explain(unreadable, &self.guard),
        }
    }
}

/// The answer to one job, in pieces.
#[derive(Default)]
struct Pieces {
    current: CallResults,
    bytes: usize,
    rows: usize,
    /// The statement at hand has made its first step.
    saw: bool,
}

impl Pieces {
    fn begin_statement(&mut self, index: usize, columns: Vec<String>) {
        if self.current.results.is_empty() {
            self.current.first_statement = index as u32;
        }
        self.current.results.push(v1::StatementResult {
            columns,
            ..v1::StatementResult::default()
        });
    }

    fn saw(&mut self, raft_index: u64) {
        self.saw = true;
        // A later statement may be the first that reads the database at all.
        self.current.raft_index = self.current.raft_index.max(raft_index);
    }

    /// Takes a row; what was there before comes out if it is a whole piece.
    fn push(&mut self, row: v1::Row, bytes: usize) -> Option<CallResults> {
        let full = self.bytes + bytes > PIECE_BYTES && self.rows > 0 || self.rows >= PIECE_ROWS;
        #[cfg(feature = "planted-bugs")]
        let full = match halite_planted::on(halite_planted::Bug::RepliesOfAnySize) {
            true => self.rows >= PIECE_ROWS,
            false => full,
        };
        let piece = full.then(|| self.next_piece());
        self.bytes += bytes;
        self.rows += 1;
        if let Some(result) = self.current.results.last_mut() {
            result.rows.push(row);
        }
        piece
    }

    fn next_piece(&mut self) -> CallResults {
        let statement = self.current.first_statement + self.current.results.len() as u32 - 1;
        let next = CallResults {
            first_statement: statement,
            results: vec![v1::StatementResult::default()],
            raft_index: self.current.raft_index,
        };
        (self.bytes, self.rows) = (0, 0);
        std::mem::replace(&mut self.current, next)
    }
}
