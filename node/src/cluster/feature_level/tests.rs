use halite_proto::v1;

use super::*;

fn levels(min: u32, max: u32) -> Levels {
    Levels::from_wire(min, max)
}

#[test]
fn what_a_build_does_not_reach_is_refused_with_the_right_advice() {
    type Expected = fn(&Result<(), Unfit>) -> bool;
    let good: Expected = |r| r.is_ok();
    let too_old: Expected = |r| matches!(r, Err(Unfit::TooOld(_)));
    let too_new: Expected = |r| matches!(r, Err(Unfit::TooNew(_)));
    for (ours, found, expected) in [
        (levels(1, 2), 0, good),
        (levels(1, 2), 1, good),
        (levels(1, 2), 2, good),
        (levels(1, 2), 3, too_old),
        (levels(0, 0), 2, too_old),
        (levels(2, 3), 0, too_new),
        (levels(2, 3), 2, good),
        (levels(2, 3), u32::MAX, too_old),
    ] {
        let checked = ours.check("the catalog", Level::from_wire(found));
        assert!(expected(&checked), "{ours}, {found}: {checked:?}");
    }
}

#[test]
fn first_level_is_written_as_nothing() {
    for (wire, level) in [(0, 1), (1, 1), (2, 2)] {
        assert_eq!(Level::from_wire(wire).get(), level);
    }
    assert_eq!(Level::FIRST.to_wire(), 0);
    assert_eq!(Level::new(2).to_wire(), 2);
}

#[test]
fn entries_beyond_this_build_are_refused_and_older_ones_never() {
    let raise = |level| Some(Kind::RaiseLevel(v1::RaiseLevelCommand { level }));
    let chunk = || Some(Kind::Chunk(v1::LtxChunk::default()));
    for (ours, level, kind, good) in [
        (levels(1, 2), 0, chunk(), true),
        (levels(1, 2), 2, chunk(), true),
        (levels(1, 2), 3, chunk(), false),
        // The cluster was raised since, and the log still holds what was written before.
        (levels(2, 3), 0, chunk(), true),
        (levels(1, 2), 0, None, false),
        (levels(1, 2), 2, None, false),
        (levels(1, 2), 3, None, false),
        (levels(1, 2), 0, raise(2), true),
        (levels(1, 2), 2, raise(3), false),
    ] {
        let read = ours.check_entry(Level::from_wire(level), kind.clone());
        assert_eq!(read.is_ok(), good, "{ours}, {level}, {kind:?}: {read:?}");
        if let Err(unfit) = read {
            assert!(unfit.to_string().contains("upgrade it"), "{unfit}");
        }
    }
}

fn node(ours: Levels, cluster: u32) -> FeatureLevel {
    let node = FeatureLevel::new(ours);
    node.learn(Level::new(cluster));
    node
}

fn call(from: &FeatureLevel, to: &FeatureLevel) -> Result<(), LevelMismatch> {
    let mut metadata = MetadataMap::new();
    from.sign(&mut metadata);
    to.verify(7, &metadata)
}

#[test]
fn versions_talk_until_the_cluster_is_raised() {
    let (older, newer) = (node(levels(1, 2), 2), node(levels(1, 3), 2));
    assert_eq!(call(&older, &newer), Ok(()));
    assert_eq!(call(&newer, &older), Ok(()));

    newer.learn(Level::new(3));
    let refused = call(&older, &newer);
    assert!(
        matches!(refused, Err(LevelMismatch::Caller { from: 7, .. })),
        "{refused:?}"
    );
    assert_eq!(older.unfit(), None);
    let refused = call(&newer, &older);
    assert!(
        matches!(refused, Err(LevelMismatch::Callee(_))),
        "{refused:?}"
    );
    assert!(matches!(older.unfit(), Some(Unfit::TooOld(_))));
    assert_eq!(newer.unfit(), None);
}

#[test]
fn callers_without_levels_are_of_the_first() {
    let unsigned = MetadataMap::new();
    assert_eq!(node(levels(1, 2), 1).verify(7, &unsigned), Ok(()));
    assert!(node(levels(1, 2), 2).verify(7, &unsigned).is_err());
}

#[test]
fn caller_that_is_too_old_learns_it_from_the_refusal() {
    let older = node(levels(1, 2), 2);
    let mut refusal = MetadataMap::new();
    older.note_refusal(&refusal);
    assert_eq!(older.unfit(), None);
    refusal.insert(TOO_OLD_KEY, MetadataValue::from(3_u32));
    older.note_refusal(&refusal);
    assert!(matches!(older.unfit(), Some(Unfit::TooOld(_))));
}
