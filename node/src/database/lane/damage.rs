//! Looks into a file that is not what was committed, while it is in use: a disk that loses bytes, a program that is not SQLite and writes to it.
//!
//! The pager tells that something was read which is not what was committed, or that SQLite could make nothing of it. All pages are looked at then;
//! if some are damaged, the database needs repair: another node leads on, and this one pulls the pages from it. Called by the lane between two
//! pieces of work.

use std::time::Duration;

use super::Lane;
use crate::database::failure::describe;

/// After a look at all pages that was in vain: what SQLite refuses may be wrong in what was committed, and then no look helps.
const LOOK_EVERY: Duration = Duration::from_secs(60);

impl Lane {
    pub(super) fn look_into_suspicion(&mut self) {
        if !self.pager.take_suspicion() || self.follow.health().needs_repair() {
            return;
        }
        let now = self.host.now();
        if self.look_again_at.is_some_and(|at| now < at) {
            self.pager.suspect();
            return;
        }
        match self.pager.own_up_to_damage() {
            Ok(report) => {
                let in_vain = report.damaged.is_empty();
                self.look_again_at = in_vain.then_some(now + LOOK_EVERY);
                if let Some(first) = report.damaged.first() {
                    let (damaged, all) = (report.damaged.len(), report.pages);
                    let why = format!(
                        "{damaged} of {all} pages of the file are not what was committed, the first of them is page {first}: the disk has \
                         lost it, or something else has written to the file"
                    );
                    self.needs_repair(why, false);
                }
            }
            Err(error) => {
                let why = format!("the file cannot be read any more: {}", describe(&error));
                self.needs_repair(why, false);
            }
        }
    }
}
