//! Archive of one database: LTX files in levels at a destination, and the way back from them to a database file.
//!
//! Owns the levels and file names, the restore plan, merging, retention, restoring, verifying and the destinations. It never knows Raft, the
//! pager or the log: the node hands it committed LTX bytes and pages, and asks it for restores. Decisions ([`plan`],
//! [`LevelZeroBatch`], [`next_work`], [`expired`]) are pure; everything that touches a disk runs behind [`Blocking`], which the simulation replaces.
//!
//! File names, levels and bytes are those of Litestream 0.5, so that either can restore what the other wrote.

pub use blocking::{Blocking, BlockingJob, BlockingStopped, Inline, ThreadPool, run_blocking};
pub use compaction::{Merge, SOURCES_MAX, Work, next_work};
pub use destination::{
    Backends, Content, ContentError, ContentWriter, Destination, DestinationError, DestinationUrl,
    Destinations, FileDestination, FileReader, MemDestination, MemStore, StoreAction, StoreCounts,
    StoreFate, StoreRequest, Upload, UrlError, list_all, list_for, open_destination,
};
pub use file_info::FileInfo;
pub use file_key::FileKey;
pub use level::Level;
pub use level_zero_batch::{BatchError, LevelZeroBatch};
pub use merge::{MergeError, merged_upload};
pub use output_place::{OutputPlace, OutputPlaceError};
pub use plan::{PlanError, RestorePlan, RestorePoint, Target, plan, restore_points};
pub use restore::{
    CheckHook, Progress, ProgressHook, RestoreError, RestoreOptions, RestoreReport, restore,
};
pub use retention::expired;
pub use schedule::Schedule;
pub use snapshot::{PageSource, SnapshotSpec, put_snapshot, snapshot_upload};
pub use verify::{Problem, VerifyReport, verify};

mod blocking;
mod compaction;
mod destination;
mod file_info;
mod file_key;
mod level;
mod level_zero_batch;
mod ltx_reader;
mod merge;
mod output_place;
mod plan;
mod restore;
mod retention;
mod schedule;
mod snapshot;
mod tmp_file;
mod verify;
