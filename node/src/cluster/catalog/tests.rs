use super::*;

fn create(name: &str) -> Kind {
    Kind::CreateDatabase(v1::CreateDatabaseCommand {
        name: name.into(),
        page_size: 4096,
    })
}

#[test]
fn created_database_is_found_until_dropped_and_its_id_never_returns() {
    let mut catalog = Catalog::default();
    let (reply, effect) = catalog.apply(7, create("app"));
    assert_eq!(
        (reply.database_id, matches!(effect, Effect::Create(_))),
        (7, true)
    );
    assert!(catalog.apply(8, create("app")).0.error.is_some());
    let drop = Kind::DropDatabase(v1::DropDatabaseCommand { database_id: 7 });
    assert!(matches!(catalog.apply(9, drop.clone()).1, Effect::Drop(_)));
    assert_eq!(catalog.apply(10, drop).1, Effect::None);
    assert!(catalog.by_name("app").is_none());
    assert_eq!(catalog.apply(11, create("app")).0.database_id, 11);
}

#[test]
fn only_what_follows_is_counted_and_once() {
    let mut catalog = Catalog::default();
    catalog.apply(7, create("app"));
    let ltx = |txid, pre_checksum, post_checksum| v1::LtxCommand {
        database_id: 7,
        txid,
        pre_checksum: Checksum::new(pre_checksum).get(),
        post_checksum: Checksum::new(post_checksum).get(),
        ..v1::LtxCommand::default()
    };
    let at = |index| LogId::new_term_index(2, index);
    let newest = |catalog: &Catalog| {
        let newest = catalog.database(7).and_then(|database| database.newest);
        newest.map(|newest| (newest.position.txid.get(), newest.index))
    };
    assert_eq!(newest(&catalog), None);
    assert_eq!(catalog.commit(&ltx(1, 0, 10), &at(8)), Standing::Counted);
    assert_eq!(catalog.commit(&ltx(2, 10, 20), &at(9)), Standing::Counted);
    // A copy on disk is of an older point: the entries come once more.
    let mut copy = Catalog::from_wire(catalog.to_wire()).expect("parses");
    assert_eq!(copy.commit(&ltx(1, 0, 10), &at(8)), Standing::Counted);
    assert_eq!(newest(&copy), Some((2, 9)));
    // The same transaction id once more, another content, a gap.
    for foreign in [ltx(2, 10, 21), ltx(3, 21, 30), ltx(4, 20, 40)] {
        let standing = copy.commit(&foreign, &at(10));
        assert!(matches!(standing, Standing::Foreign(_)), "{standing:?}");
    }
    assert_eq!(copy.commit(&ltx(3, 20, 30), &at(11)), Standing::Counted);
    assert_eq!(newest(&copy), Some((3, 11)));
    let drop = Kind::DropDatabase(v1::DropDatabaseCommand { database_id: 7 });
    copy.apply(12, drop);
    assert_eq!(copy.commit(&ltx(4, 30, 40), &at(13)), Standing::NoDatabase);
}

#[test]
fn catalog_of_an_older_version_knows_no_positions() {
    let mut catalog = Catalog::default();
    catalog.apply(7, create("app"));
    let mut wire = catalog.to_wire();
    wire.databases[0].position = None;
    let mut old = Catalog::from_wire(wire).expect("parses");
    let ltx = v1::LtxCommand {
        database_id: 7,
        txid: 41,
        pre_checksum: 40,
        post_checksum: 41,
        ..v1::LtxCommand::default()
    };
    let at = LogId::new_term_index(2, 50);
    assert_eq!(old.commit(&ltx, &at), Standing::Counted);
    assert_eq!(
        old.database(7).and_then(|d| d.newest).map(|n| n.index),
        Some(50)
    );
}

#[test]
fn positions_that_an_older_version_has_passed_are_unknown() {
    let mut catalog = Catalog::default();
    catalog.apply(7, create("app"));
    let ltx = |txid, pre_checksum, post_checksum| v1::LtxCommand {
        database_id: 7,
        txid,
        pre_checksum: Checksum::new(pre_checksum).get(),
        post_checksum: Checksum::new(post_checksum).get(),
        ..v1::LtxCommand::default()
    };
    let at = |index| LogId::new_term_index(2, index);
    assert_eq!(catalog.commit(&ltx(1, 0, 10), &at(8)), Standing::Counted);
    catalog.advance(at(8), None);
    // It applied 2 to 40, purged them, and did not save the catalog.
    catalog.purged_beyond(at(50));
    assert_eq!(catalog.point.applied, Some(at(50)));
    assert_eq!(catalog.newest_entries().count(), 0);
    assert_eq!(catalog.commit(&ltx(41, 40, 41), &at(51)), Standing::Counted);
}

#[test]
fn names_that_are_no_file_names_are_refused() {
    for bad in ["", ".", "..", ".x", "a/b", "a b", "ä", &"x".repeat(129)] {
        assert!(check_name(bad).is_err(), "{bad:?}");
    }
    assert!(check_name("app-1_x.db").is_ok());
}

#[test]
fn archive_progress_never_goes_back() {
    let mut catalog = Catalog::default();
    let progress = |txid| {
        Kind::ArchiveProgress(v1::ArchiveProgressCommand {
            database_id: 1,
            destination: "d".into(),
            txid,
            raft_index: txid * 10,
        })
    };
    catalog.apply(1, progress(5));
    catalog.apply(2, progress(3));
    assert_eq!(
        catalog.archived(1, "d"),
        Some(ArchivePosition {
            txid: 5,
            raft_index: 50
        })
    );
}

#[test]
fn catalog_survives_storage() {
    let mut catalog = Catalog::default();
    catalog.apply(7, create("app"));
    catalog.apply(
        8,
        Kind::FormCluster(v1::FormClusterCommand {
            cluster_id: "c".into(),
            level: 2,
        }),
    );
    catalog.apply(
        9,
        Kind::RegisterNode(v1::RegisterNodeCommand {
            node_id: 1,
            instance_id: "i".into(),
        }),
    );
    catalog.advance(LogId::new_term_index(2, 9), None);
    let back = Catalog::from_wire(catalog.to_wire()).expect("parses");
    assert_eq!(back.to_wire(), catalog.to_wire());
    assert_eq!(back.point, catalog.point);
}

#[test]
fn level_only_grows_and_is_absent_at_the_first() {
    let mut catalog = Catalog::default();
    assert_eq!(catalog.to_wire().level, 0);
    let raise = |level| Kind::RaiseLevel(v1::RaiseLevelCommand { level });
    for (index, (to, effect, level)) in [
        (2, Effect::IdentityChanged, 2),
        (1, Effect::None, 2),
        (2, Effect::None, 2),
        (3, Effect::IdentityChanged, 3),
    ]
    .into_iter()
    .enumerate()
    {
        let (reply, found) = catalog.apply(index as u64, raise(to));
        assert_eq!((reply.error, found), (None, effect), "to {to}");
        assert_eq!(catalog.level, Level::new(level), "to {to}");
    }
    assert_eq!(catalog.to_wire().level, 3);
}

#[test]
fn catalog_of_a_newer_build_is_refused() {
    let newer = v1::Catalog {
        level: Levels::OURS.max.get() + 1,
        ..v1::Catalog::default()
    };
    assert!(matches!(
        Catalog::check_level(&newer, Levels::OURS),
        Err(Unfit::TooOld(_))
    ));
    let first = v1::Catalog::default();
    assert_eq!(Catalog::check_level(&first, Levels::OURS), Ok(()));
}

#[test]
fn copy_of_a_catalog_is_of_a_point_that_no_transaction_crosses() {
    let mut catalog = Catalog::default();
    catalog.apply(7, create("app"));
    catalog.advance(LogId::new_term_index(2, 7), None);
    let before = catalog.whole().clone();
    // Chunks at 8 and 10, and a database is created in between.
    catalog.apply(9, create("other"));
    catalog.advance(LogId::new_term_index(2, 10), Some(before.clone()));
    let mut copy = Catalog::from_wire(catalog.to_wire()).expect("parses");
    assert_eq!(copy.whole(), &before);
    // From there on all is applied once more.
    let (_, effect) = copy.apply(9, create("other"));
    assert_eq!(effect, Effect::None);
    copy.advance(LogId::new_term_index(2, 11), None);
    catalog.advance(LogId::new_term_index(2, 11), None);
    assert_eq!(copy.to_wire(), catalog.to_wire());
}
