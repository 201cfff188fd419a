//! A group through the Rust client, as a program would send it: what reads as a query, what writes to be executed, what stands between BEGIN and
//! COMMIT in an interactive transaction.

use anyhow::Result;
use halite_client::{Client, Database, Transaction};

use super::fixture::{Group, Statement};
use super::said::{Answer, Refusal, Said};

/// What each statement of a group is answered with.
pub(super) async fn answers(client: &Client, database: &str, group: &Group) -> Result<Vec<Said>> {
    let mut caller = Caller {
        database: client.database(database),
        transaction: None,
    };
    let mut told = Vec::with_capacity(group.statements.len());
    for statement in &group.statements {
        told.push(caller.answer(statement).await);
    }
    Ok(told)
}

struct Caller {
    database: Database,
    transaction: Option<Transaction>,
}

impl Caller {
    async fn answer(&mut self, statement: &Statement) -> Said {
        let sql = statement.sql.as_str();
        let word = first_word(sql);
        match (word.as_str(), self.transaction.take()) {
            // What is listed as different is sent as it is written.
            ("BEGIN", None) if begins(sql) && statement.for_the_client().is_none() => {
                match self.database.transaction().await {
                    Ok(transaction) => self.transaction = Some(transaction),
                    Err(error) => return Said::Refusal(error.into()),
                }
                done(Ok(()))
            }
            ("COMMIT" | "END", Some(transaction)) => done(transaction.commit().await),
            ("ROLLBACK", Some(transaction)) if !sql.to_uppercase().contains(" TO ") => {
                done(transaction.rollback().await)
            }
            (_, Some(mut transaction)) => {
                let told = transaction.execute(sql, ()).await.into();
                self.transaction = Some(transaction);
                told
            }
            (word, None) if reads(word, sql) => self.database.query(sql, ()).await.into(),
            (_, None) => self.database.execute(sql, ()).await.into(),
        }
    }
}

fn done(ended: Result<(), halite_client::Error>) -> Said {
    match ended {
        Ok(()) => Said::Answer(Answer::default()),
        Err(error) => Said::Refusal(Refusal::from(error)),
    }
}

fn first_word(sql: &str) -> String {
    let word = sql.split(|c: char| !c.is_ascii_alphabetic()).next();
    word.unwrap_or_default().to_ascii_uppercase()
}

/// Anything else is for SQLite to judge.
fn begins(sql: &str) -> bool {
    const WORDS: [&str; 5] = ["BEGIN", "DEFERRED", "IMMEDIATE", "EXCLUSIVE", "TRANSACTION"];
    sql.trim_end_matches(';')
        .split(' ')
        .all(|word| WORDS.contains(&word))
}

/// What a program knows of its own statements: this one only reads.
fn reads(word: &str, sql: &str) -> bool {
    const WRITES: [&str; 3] = ["INSERT ", "UPDATE ", "DELETE "];
    const PRAGMAS: [&str; 4] = ["=", "user_version(", "optimize", "incremental_vacuum"];
    match word {
        "SELECT" | "VALUES" | "EXPLAIN" => true,
        "WITH" => !WRITES.iter().any(|write| sql.contains(write)),
        "PRAGMA" => !PRAGMAS.iter().any(|writes| sql.contains(writes)),
        _ => false,
    }
}
