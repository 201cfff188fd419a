//! [`Capacity`]: how many databases this process may have open before it runs out of file descriptors. Pure.
//!
//! The log shares the descriptors with the databases: where they run out, it cannot open its next file, and the node stops. So databases are
//! counted at the most they may take, and something is kept back.

/// What a database takes without a reader: file and WAL for each of the connections that hold the locks, write and apply, and the shared
/// memory.
const DESCRIPTORS_OF_DATABASE: u64 = 8;
/// What a reader thread adds for each database: file and WAL.
const DESCRIPTORS_OF_READER: u64 = 2;
/// Kept back for the log, for connections, and for files that are open for a moment.
const RESERVE: u64 = 256;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Descriptors that the process may have.
    pub open_files: u64,
    /// Threads that run reads, each with a connection of its own.
    pub reader_threads: usize,
}

impl Capacity {
    /// So many databases may be open at once: at least one, or the node would be of no use.
    pub fn databases(self) -> usize {
        let readers = u64::try_from(self.reader_threads).unwrap_or(u64::MAX);
        let each =
            DESCRIPTORS_OF_DATABASE.saturating_add(readers.saturating_mul(DESCRIPTORS_OF_READER));
        let databases = self.open_files.saturating_sub(RESERVE) / each;
        usize::try_from(databases).unwrap_or(usize::MAX).max(1)
    }

    /// Why a database more cannot be opened beside `held`; `None` if it can.
    pub(crate) fn refusal(self, held: usize) -> Option<String> {
        let most = self.databases();
        (held >= most).then(|| {
            format!(
                "this node can hold {most} databases, and has {held}: it may have {} files open; raise the limit (ulimit -n, LimitNOFILE) and \
                 restart it",
                self.open_files
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_kept_back_for_the_log_and_connections() {
        let databases = |open_files, reader_threads| {
            let capacity = Capacity {
                open_files,
                reader_threads,
            };
            capacity.databases()
        };
        for (open_files, readers, most) in [
            (0, 2, 1),
            (256, 2, 1),
            (1_024, 2, 64),
            (1_024, 16, 19),
            (1_048_576, 4, 65_520),
        ] {
            assert_eq!(
                databases(open_files, readers),
                most,
                "{open_files} {readers}"
            );
        }
        assert_eq!(databases(u64::MAX, usize::MAX), 1);
    }

    #[test]
    fn the_refusal_names_the_limit_and_what_to_do() {
        let capacity = Capacity {
            open_files: 1_024,
            reader_threads: 2,
        };
        assert_eq!(capacity.refusal(63), None);
        let said = capacity.refusal(64).unwrap_or_default();
        assert!(
            said.contains("64") && said.contains("1024") && said.contains("ulimit"),
            "{said}"
        );
    }
}
