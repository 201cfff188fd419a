//! [`Header`]: the first 100 bytes of a file. Owns their layout and the rules between the fields.

use crate::{Checksum, PageSize, Txid};

/// Bytes of a header.
pub const HEADER_LEN: usize = 100;

const MAGIC: [u8; 4] = *b"LTX1";
const FLAG_NO_CHECKSUM: u32 = 1 << 1;

/// What an LTX file says about itself before its pages.
///
/// On disk, big-endian, at the byte offsets in parentheses: magic `LTX1` (0), flags (4), page size (8), commit (12), min (16) and
/// max (24) transaction, timestamp (32), pre-apply checksum (40), WAL offset (48), size (56) and salts (64, 68), node id (72); bytes
/// 80 to 99 are reserved, written as zero and not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Size of every page in the file.
    pub page_size: PageSize,
    /// Size of the database after this file, in pages.
    pub commit: u32,
    /// First transaction in the file.
    pub min_txid: Txid,
    /// Last transaction in the file.
    pub max_txid: Txid,
    /// When the last transaction was written, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Checksum of the database before this file; `None` for snapshots and for files without checksums.
    pub pre_apply_checksum: Option<Checksum>,
    /// Where in the SQLite WAL the frames began, in bytes; 0 if unknown.
    pub wal_offset: i64,
    /// How many bytes of the WAL are in here; 0 if unknown.
    pub wal_size: i64,
    /// First salt of the WAL; 0 if unknown.
    pub wal_salt1: u32,
    /// Second salt of the WAL; 0 if unknown.
    pub wal_salt2: u32,
    /// Who wrote the file; any value, 0 if unknown. Lost when files are compacted.
    pub node_id: u64,
    /// The file carries no database checksums. (The file checksum is always there.)
    pub no_checksum: bool,
}

/// A header that breaks a rule of the format; [`offset`](Self::offset) says at which byte.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file does not begin with `LTX1`.
    #[error("not an LTX file: wrong magic found={0:02x?}")]
    Magic([u8; 4]),
    /// A flag other than "no checksum" is set.
    #[error("unknown header flags flags={0:#010x}")]
    Flags(u32),
    /// The page size is not one SQLite can have.
    #[error(transparent)]
    PageSize(#[from] crate::InvalidPageSize),
    /// The first transaction is 0.
    #[error("first transaction must not be zero")]
    MinTxidZero,
    /// The last transaction is 0.
    #[error("last transaction must not be zero")]
    MaxTxidZero,
    /// The last transaction is before the first.
    #[error("last transaction before the first min_txid={min} max_txid={max}")]
    TxidOrder {
        /// First transaction.
        min: Txid,
        /// Last transaction.
        max: Txid,
    },
    /// The WAL offset is negative.
    #[error("negative WAL offset wal_offset={0}")]
    WalOffsetNegative(i64),
    /// The WAL size is negative.
    #[error("negative WAL size wal_size={0}")]
    WalSizeNegative(i64),
    /// WAL salts or a WAL size without a WAL offset.
    #[error(
        "WAL size or salts need a WAL offset wal_size={size} wal_salt1={salt1} wal_salt2={salt2}"
    )]
    WalOffsetMissing {
        /// WAL size.
        size: i64,
        /// First salt.
        salt1: u32,
        /// Second salt.
        salt2: u32,
    },
    /// A snapshot, or a file without checksums, has a pre-apply checksum.
    #[error("pre-apply checksum not allowed checksum={found:016x} no_checksum={no_checksum}")]
    PreApplyForbidden {
        /// The stored value.
        found: u64,
        /// Whether the file says it has no checksums (else it is a snapshot).
        no_checksum: bool,
    },
    /// A file with checksums has no (or a malformed) pre-apply checksum.
    #[error("pre-apply checksum missing or without bit 63 checksum={0:016x}")]
    PreApplyMissing(u64),
}

impl HeaderError {
    /// Byte offset of the offending field.
    pub const fn offset(&self) -> u64 {
        match self {
            HeaderError::Magic(_) => 0,
            HeaderError::Flags(_) => 4,
            HeaderError::PageSize(_) => 8,
            HeaderError::MinTxidZero => 16,
            HeaderError::MaxTxidZero | HeaderError::TxidOrder { .. } => 24,
            HeaderError::PreApplyForbidden { .. } | HeaderError::PreApplyMissing(_) => 40,
            HeaderError::WalOffsetNegative(_) | HeaderError::WalOffsetMissing { .. } => 48,
            HeaderError::WalSizeNegative(_) => 56,
        }
    }
}

impl Header {
    /// A header without database checksums, WAL position and node id.
    pub const fn new(
        page_size: PageSize,
        commit: u32,
        min: Txid,
        max: Txid,
        timestamp_ms: i64,
    ) -> Self {
        Header {
            page_size,
            commit,
            min_txid: min,
            max_txid: max,
            timestamp_ms,
            pre_apply_checksum: None,
            wal_offset: 0,
            wal_size: 0,
            wal_salt1: 0,
            wal_salt2: 0,
            node_id: 0,
            no_checksum: true,
        }
    }

    /// True if the file holds the whole database, which is so exactly if it begins with transaction 1.
    pub const fn is_snapshot(&self) -> bool {
        self.min_txid.get() == 1
    }

    /// Checks the rules between the fields.
    ///
    /// # Errors
    /// The first rule that is broken, in the order of the fields.
    pub fn validate(&self) -> Result<(), HeaderError> {
        if self.min_txid.is_zero() {
            return Err(HeaderError::MinTxidZero);
        }
        if self.max_txid.is_zero() {
            return Err(HeaderError::MaxTxidZero);
        }
        if self.min_txid > self.max_txid {
            return Err(HeaderError::TxidOrder {
                min: self.min_txid,
                max: self.max_txid,
            });
        }
        self.validate_pre_apply(self.pre_apply_checksum.map_or(0, Checksum::get))?;
        self.validate_wal()
    }

    /// Checks the stored form (0 for none) of the pre-apply checksum against the other fields.
    fn validate_pre_apply(&self, stored: u64) -> Result<(), HeaderError> {
        if self.no_checksum || self.is_snapshot() {
            if stored != 0 {
                let no_checksum = self.no_checksum;
                return Err(HeaderError::PreApplyForbidden {
                    found: stored,
                    no_checksum,
                });
            }
        } else if Checksum::from_stored(stored).is_none() {
            return Err(HeaderError::PreApplyMissing(stored));
        }
        Ok(())
    }

    fn validate_wal(&self) -> Result<(), HeaderError> {
        let (size, salt1, salt2) = (self.wal_size, self.wal_salt1, self.wal_salt2);
        if self.wal_offset < 0 {
            return Err(HeaderError::WalOffsetNegative(self.wal_offset));
        }
        if size < 0 {
            return Err(HeaderError::WalSizeNegative(size));
        }
        if self.wal_offset == 0 && (size != 0 || salt1 != 0 || salt2 != 0) {
            return Err(HeaderError::WalOffsetMissing { size, salt1, salt2 });
        }
        Ok(())
    }

    /// Writes the fields as they are; call [`validate`](Self::validate) first.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let flags = if self.no_checksum {
            FLAG_NO_CHECKSUM
        } else {
            0
        };
        let pre_apply = self.pre_apply_checksum.map_or(0, Checksum::get);
        let mut put = |offset: usize, field: &[u8]| {
            bytes[offset..offset + field.len()].copy_from_slice(field)
        };
        put(0, &MAGIC);
        put(4, &flags.to_be_bytes());
        put(8, &self.page_size.get().to_be_bytes());
        put(12, &self.commit.to_be_bytes());
        put(16, &self.min_txid.get().to_be_bytes());
        put(24, &self.max_txid.get().to_be_bytes());
        put(32, &self.timestamp_ms.to_be_bytes());
        put(40, &pre_apply.to_be_bytes());
        put(48, &self.wal_offset.to_be_bytes());
        put(56, &self.wal_size.to_be_bytes());
        put(64, &self.wal_salt1.to_be_bytes());
        put(68, &self.wal_salt2.to_be_bytes());
        put(72, &self.node_id.to_be_bytes());
        bytes
    }

    /// Reads and validates a header.
    ///
    /// # Errors
    /// The first field that breaks a rule.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, HeaderError> {
        let magic: [u8; 4] = field(bytes, 0);
        if magic != MAGIC {
            return Err(HeaderError::Magic(magic));
        }
        let flags = u32::from_be_bytes(field(bytes, 4));
        if flags & !FLAG_NO_CHECKSUM != 0 {
            return Err(HeaderError::Flags(flags));
        }
        let no_checksum = flags & FLAG_NO_CHECKSUM != 0;
        let pre_apply = u64::from_be_bytes(field(bytes, 40));
        let header = Header {
            page_size: PageSize::try_from(u32::from_be_bytes(field(bytes, 8)))?,
            commit: u32::from_be_bytes(field(bytes, 12)),
            min_txid: Txid::new(u64::from_be_bytes(field(bytes, 16))),
            max_txid: Txid::new(u64::from_be_bytes(field(bytes, 24))),
            timestamp_ms: i64::from_be_bytes(field(bytes, 32)),
            pre_apply_checksum: Checksum::from_stored(pre_apply),
            wal_offset: i64::from_be_bytes(field(bytes, 48)),
            wal_size: i64::from_be_bytes(field(bytes, 56)),
            wal_salt1: u32::from_be_bytes(field(bytes, 64)),
            wal_salt2: u32::from_be_bytes(field(bytes, 68)),
            node_id: u64::from_be_bytes(field(bytes, 72)),
            no_checksum,
        };
        // The struct cannot hold a value without bit 63, so the stored one is checked, before the struct is.
        if pre_apply != 0 && header.pre_apply_checksum.is_none() {
            header.validate_pre_apply(pre_apply)?;
        }
        header.validate()?;
        Ok(header)
    }
}

/// A field of known place and width.
fn field<const WIDTH: usize>(bytes: &[u8; HEADER_LEN], offset: usize) -> [u8; WIDTH] {
    let mut out = [0; WIDTH];
    out.copy_from_slice(&bytes[offset..offset + WIDTH]);
    out
}
