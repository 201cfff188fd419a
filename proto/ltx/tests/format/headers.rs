//! Every header rule, by breaking it.

use halite_ltx::{
    Checksum, DecodeFault, Decoder, Encoder, HEADER_LEN, Header, HeaderError, PageSize, Txid,
};

fn plain() -> Header {
    let mut header = Header::new(
        PageSize::DEFAULT,
        7,
        Txid::new(3),
        Txid::new(5),
        1_700_000_000_000,
    );
    (
        header.wal_offset,
        header.wal_size,
        header.wal_salt1,
        header.wal_salt2,
    ) = (32, 4120, 11, 12);
    header
}

fn tracked() -> Header {
    Header {
        no_checksum: false,
        pre_apply_checksum: Some(Checksum::new(1)),
        ..plain()
    }
}

/// Base header, bytes to overwrite, expected error and offset.
type Row = (
    &'static str,
    Header,
    &'static [(usize, &'static [u8])],
    fn(&HeaderError) -> bool,
    u64,
);

const ZERO_8: &[u8] = &[0; 8];
const ONE_8: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 1];
const MINUS_8: &[u8] = &[0xff; 8];

#[rustfmt::skip]
fn table() -> Vec<Row> {
    use HeaderError as E;
    vec![
        ("magic", plain(), &[(3, b"2")], |e| matches!(e, E::Magic(_)), 0),
        ("flag 0", plain(), &[(7, &[0x03])], |e| matches!(e, E::Flags(3)), 4),
        ("flag 31", plain(), &[(4, &[0x80])], |e| matches!(e, E::Flags(_)), 4),
        ("page size 0", plain(), &[(8, &[0; 4])], |e| matches!(e, E::PageSize(_)), 8),
        ("page size 256", plain(), &[(8, &[0, 0, 1, 0])], |e| matches!(e, E::PageSize(_)), 8),
        ("page size 131072", plain(), &[(8, &[0, 2, 0, 0])], |e| matches!(e, E::PageSize(_)), 8),
        ("page size 4097", plain(), &[(11, &[1])], |e| matches!(e, E::PageSize(_)), 8),
        ("min 0", plain(), &[(16, ZERO_8)], |e| matches!(e, E::MinTxidZero), 16),
        ("max 0", plain(), &[(24, ZERO_8)], |e| matches!(e, E::MaxTxidZero), 24),
        ("max < min", plain(), &[(24, ONE_8)], |e| matches!(e, E::TxidOrder { .. }), 24),
        ("pre in plain file", plain(), &[(40, MINUS_8)], |e| matches!(e, E::PreApplyForbidden { .. }), 40),
        ("flagless pre in plain file", plain(), &[(40, ONE_8)], |e| matches!(e, E::PreApplyForbidden { .. }), 40),
        ("pre in snapshot", tracked(), &[(16, ONE_8)], |e| matches!(e, E::PreApplyForbidden { .. }), 40),
        ("pre missing", tracked(), &[(40, ZERO_8)], |e| matches!(e, E::PreApplyMissing(0)), 40),
        ("pre without bit 63", tracked(), &[(40, ONE_8)], |e| matches!(e, E::PreApplyMissing(1)), 40),
        ("wal offset < 0", plain(), &[(48, MINUS_8)], |e| matches!(e, E::WalOffsetNegative(-1)), 48),
        ("wal size < 0", plain(), &[(56, MINUS_8)], |e| matches!(e, E::WalSizeNegative(-1)), 56),
        ("wal size without offset", plain(), &[(48, ZERO_8), (64, ZERO_8)], |e| matches!(e, E::WalOffsetMissing { .. }), 48),
        ("salts without offset", plain(), &[(48, ZERO_8), (56, ZERO_8)], |e| matches!(e, E::WalOffsetMissing { .. }), 48),
        ("salt 2 without offset", plain(), &[(48, ZERO_8), (56, ZERO_8), (64, &[0; 4])], |e| matches!(e, E::WalOffsetMissing { .. }), 48),
    ]
}

#[test]
fn each_broken_rule_is_named_with_its_offset() {
    for (name, base, changes, expected, offset) in table() {
        let mut bytes = base.encode();
        assert_eq!(Header::decode(&bytes).unwrap(), base);
        for (at, change) in changes {
            bytes[*at..*at + change.len()].copy_from_slice(change);
        }
        let error = Header::decode(&bytes).expect_err(name);
        assert!(expected(&error), "{name}: {error}");
        assert_eq!(error.offset(), offset, "{name}: {error}");
        let error = Decoder::new(&bytes[..]).expect_err(name);
        assert_eq!(error.offset, offset, "{name}");
        assert!(
            matches!(error.fault, DecodeFault::Header(_)),
            "{name}: {error}"
        );
    }
}

#[test]
fn encoder_writes_nothing_for_a_broken_header() {
    let header = Header {
        wal_offset: 0,
        ..plain()
    };
    let mut out = Vec::new();
    assert!(Encoder::new(&mut out, header).is_err());
    assert!(out.is_empty());
}

#[test]
fn any_flip_of_a_header_bit_is_an_error_or_another_header() {
    for base in [
        plain(),
        tracked(),
        Header {
            min_txid: Txid::new(1),
            ..plain()
        },
    ] {
        let bytes = base.encode();
        for bit in 0..HEADER_LEN * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 0x80 >> (bit % 8);
            match Header::decode(&flipped) {
                Ok(header) if bit / 8 >= 80 => {
                    assert_eq!(header, base, "reserved bytes are not looked at")
                }
                Ok(header) => assert!(header != base && header.encode() == flipped, "bit={bit}"),
                Err(error) => assert!(error.offset() < 80, "bit={bit}"),
            }
        }
    }
}
