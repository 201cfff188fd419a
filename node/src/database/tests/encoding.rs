//! A connection takes the encoding of its text from the first schema it reads, and fails on any other: an import may bring one.

use std::path::{Path, PathBuf};

use super::harness::*;
use super::readers::{pool, read};
use crate::database::*;

fn file(dir: &Path, encoding: &str) -> PathBuf {
    let path = dir.join(format!("{encoding}.import"));
    let _ = std::fs::remove_file(&path);
    let stock = rusqlite::Connection::open(&path).expect("opened");
    stock
        .execute_batch(&format!(
            "PRAGMA encoding = '{encoding}'; CREATE TABLE t(v); INSERT INTO t VALUES('häl')"
        ))
        .expect("filled");
    path
}

#[test]
fn an_import_with_another_text_encoding_leaves_all_nodes_reading_and_writing() {
    let (dir, _log, primary, follower) = pair(&["CREATE TABLE t(v)"]);
    let pool = pool();
    let mut nodes = [primary, follower];
    let encodings = ["UTF-16le", "UTF-8", "UTF-16be", "UTF-16le", "UTF-8"];
    for (encoding, term) in encodings.into_iter().zip(2..) {
        let [primary, follower] = &nodes;
        // Connections that know the encoding from before.
        for node in &nodes {
            read(&pool, node, &["SELECT v FROM t"]).expect("read");
        }
        answer(primary.database.import(file(dir.path(), encoding), true))
            .map_err(|error| error.message)
            .expect("imported");
        primary
            .run("INSERT INTO t VALUES('ite'), (printf('%s', 'ü'))")
            .expect("written");
        primary.run("CREATE INDEX i ON t(v)").expect("written");
        follower.assert_same(primary);
        for node in &nodes {
            let sqls = ["PRAGMA encoding", "SELECT group_concat(v, '') FROM t"];
            let rows = read(&pool, node, &sqls)
                .map_err(|error| error.message)
                .expect("read");
            assert_eq!(rows.results[0].rows[0].values, [text(encoding)]);
            assert_eq!(rows.results[1].rows[0].values, [text("häliteü")]);
        }
        // The follower leads next.
        answer(primary.database.close_lane(None));
        nodes.reverse();
        nodes[0]
            .database
            .open_lane(Leadership { term, ..LEADERSHIP });
        nodes[0]
            .run("INSERT INTO t VALUES('?')")
            .map_err(|error| error.message)
            .expect("written by the other node");
    }
}
