//! Text forms: sixteen lowercase digits and nothing else.

use halite_ltx::{Checksum, Position, Txid, file_name, parse_file_name};

#[test]
fn texts_are_read_back() {
    let position = Position::new(Txid::new(0x1f), Checksum::new(0xabc));
    assert_eq!(position.to_string(), "000000000000001f/8000000000000abc");
    assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
    assert_eq!(
        Position::ZERO.to_string(),
        "0000000000000000/8000000000000000"
    );
    let name = file_name(Txid::new(1), Txid::new(0xd));
    assert_eq!(name, "0000000000000001-000000000000000d.ltx");
    assert_eq!(
        parse_file_name(&name).unwrap(),
        (Txid::new(1), Txid::new(0xd))
    );
}

#[test]
fn anything_else_is_refused() {
    for text in [
        "",
        "1",
        "+000000000000001",
        "000000000000001F",
        "00000000000000001",
        "0x00000000000001",
        "000000000000000é",
    ] {
        assert!(text.parse::<Txid>().is_err(), "{text:?}");
    }
    assert!(
        "0000000000000001".parse::<Checksum>().is_err(),
        "bit 63 is missing"
    );
    for text in [
        "",
        "/",
        "0000000000000001",
        "0000000000000001/0000000000000001",
        "0000000000000001/8000000000000001/",
    ] {
        assert!(text.parse::<Position>().is_err(), "{text:?}");
    }
    for name in [
        "0000000000000001-000000000000000d",
        "0000000000000001-000000000000000D.ltx",
        "0000000000000002-0000000000000001.ltx",
        "0000000000000000-0000000000000001.ltx",
        "0000000000000001_0000000000000001.ltx",
        "0000000000000001-0000000000000001.ltx.tmp",
        " 0000000000000001-0000000000000001.ltx",
    ] {
        assert!(parse_file_name(name).is_err(), "{name:?}");
    }
}

#[test]
fn txids_do_not_wrap() {
    assert_eq!(Txid::ZERO.next(), Txid::new(1));
    assert_eq!(Txid::new(u64::MAX).next(), Txid::new(u64::MAX));
    assert_eq!(Txid::ZERO.previous(), None);
}
