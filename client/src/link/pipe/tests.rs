use super::*;
use crate::call_ledger::CallLedger;

struct Bench {
    pipe: Pipe,
    ledger: Arc<CallLedger>,
    now: Instant,
}

type Receiver = oneshot::Receiver<Outcome>;

impl Bench {
    fn new() -> Self {
        Self {
            pipe: Pipe::new(),
            ledger: CallLedger::new(),
            now: Instant::now(),
        }
    }

    fn push(&mut self, id: &Arc<CallId>, sql_bytes: usize, write: bool) -> Result<Receiver, Lost> {
        let (sender, receiver) = oneshot::channel();
        let call = wire::Call {
            id: id.get(),
            statements: vec![wire::Statement {
                sql: "x".repeat(sql_bytes),
                ..wire::Statement::default()
            }],
            ..wire::Call::default()
        };
        let deadline = self.now + Duration::from_secs(5);
        self.pipe
            .push(id, &call, sender, write, deadline)
            .map(|_| receiver)
    }
}

fn lost(receiver: &mut Receiver) -> Lost {
    receiver
        .try_recv()
        .expect("was completed")
        .expect_err("was lost")
}

fn deliver(completed: Vec<Completed>) {
    for done in completed {
        if let Some((sender, outcome)) = done.caller {
            sender.send(outcome).expect("caller waits");
        }
    }
}

#[tokio::test]
async fn drained_bytes_are_the_message() {
    let mut bench = Bench::new();
    let ids = [bench.ledger.open(), bench.ledger.open()];
    let _receivers: Vec<_> = ids
        .iter()
        .map(|id| bench.push(id, 3, true).unwrap())
        .collect();
    let (mut message, calls) = bench.pipe.drain();
    prost::encoding::uint64::encode(3, &9, &mut message);
    let decoded = wire::SessionRequest::decode(message).unwrap();
    assert_eq!(
        (calls, decoded.calls.len(), decoded.answered_below),
        (2, 2, 9)
    );
    assert_eq!(decoded.calls[1].id, ids[1].get());
    assert!(bench.pipe.queue_is_empty());
    assert_eq!(bench.pipe.queued_bytes, 0);
}

#[tokio::test]
async fn a_large_call_starts_a_message_of_its_own() {
    let mut bench = Bench::new();
    let mut receivers = Vec::new();
    for bytes in [10, MESSAGE_BYTES, 10, 10] {
        let id = bench.ledger.open();
        receivers.push(bench.push(&id, bytes, true).unwrap());
    }
    let calls: Vec<u64> =
        std::iter::from_fn(|| (!bench.pipe.queue_is_empty()).then(|| bench.pipe.drain().1))
            .collect();
    assert_eq!(calls, [1, 1, 2]);
}

#[tokio::test]
async fn a_full_queue_refuses_calls_that_then_were_not_sent() {
    let mut bench = Bench::new();
    let mut receivers = Vec::new();
    let refused = loop {
        let id = bench.ledger.open();
        match bench.push(&id, 8 << 20, true) {
            Ok(receiver) => receivers.push(receiver),
            Err(lost) => break lost,
        }
    };
    assert!(!refused.maybe_sent);
    assert_eq!(receivers.len(), 8);
    bench.pipe.drain();
    let id = bench.ledger.open();
    assert!(bench.push(&id, 10, true).is_ok());
}

#[tokio::test]
async fn only_calls_that_left_the_queue_may_have_been_sent() {
    let mut bench = Bench::new();
    let ids = [bench.ledger.open(), bench.ledger.open()];
    let mut sent = bench.push(&ids[0], 3, true).unwrap();
    bench.pipe.drain();
    let mut queued = bench.push(&ids[1], 3, true).unwrap();
    let (completed, _) = bench.pipe.close(&"gone".into());
    deliver(completed);
    assert!(lost(&mut sent).maybe_sent);
    assert!(!lost(&mut queued).maybe_sent);
    assert!(bench.push(&ids[1], 3, true).is_err(), "closed for good");
}

#[tokio::test]
async fn a_deadline_gives_the_caller_back_and_holds_the_id() {
    let mut bench = Bench::new();
    let id = bench.ledger.open();
    let number = id.get();
    let mut receiver = bench.push(&id, 3, true).unwrap();
    drop(id);
    bench.pipe.drain();
    let late = bench.now + Duration::from_secs(5);
    assert_eq!(bench.pipe.sweep_at(), Some(late));
    deliver(bench.pipe.sweep(late));
    assert!(lost(&mut receiver).maybe_sent);
    assert_eq!(bench.ledger.answered_below(), number);
    assert_eq!(bench.pipe.sweep_at(), Some(late + TOMBSTONE));
    drop(bench.pipe.sweep(late + TOMBSTONE));
    assert_eq!(bench.ledger.answered_below(), number + 1);
    assert_eq!(bench.pipe.sweep_at(), None);
}

#[tokio::test]
async fn a_retry_on_the_same_stream_waits_for_the_answer_already_under_way() {
    let mut bench = Bench::new();
    let id = bench.ledger.open();
    let _released = bench.push(&id, 3, true).unwrap();
    bench.pipe.drain();
    drop(bench.pipe.release_writes(&"moved".into()));
    let mut again = bench.push(&id, 3, true).unwrap();
    assert!(bench.pipe.queue_is_empty(), "not sent twice");
    let reply = wire::Reply {
        id: id.get(),
        ..wire::Reply::default()
    };
    deliver(bench.pipe.reply(reply, 1000).into_iter().collect());
    assert!(again.try_recv().unwrap().is_ok());
}

#[tokio::test]
async fn a_caller_that_is_gone_gives_its_call_up_once_and_holds_the_id() {
    let mut bench = Bench::new();
    let id = bench.ledger.open();
    let number = id.get();
    let _gone = bench.push(&id, 3, true).unwrap();
    drop(id);
    bench.pipe.drain();
    assert!(bench.pipe.abandon(number).is_some());
    assert!(bench.pipe.abandon(number).is_none());
    let (message, calls) = bench.pipe.drain();
    let decoded = wire::SessionRequest::decode(message).unwrap();
    assert_eq!((calls, decoded.calls.len()), (0, 0));
    assert_eq!(decoded.given_up, [number]);
    assert_eq!(bench.ledger.answered_below(), number);
    let reply = wire::Reply {
        id: number,
        ..wire::Reply::default()
    };
    drop(bench.pipe.reply(reply, 1000));
    assert_eq!(bench.ledger.answered_below(), number + 1);
    assert!(bench.pipe.queue_is_empty() && bench.pipe.queued_bytes == 0);
}

#[tokio::test]
async fn only_writes_are_released_when_leadership_moves() {
    let mut bench = Bench::new();
    let ids = [bench.ledger.open(), bench.ledger.open()];
    let mut write = bench.push(&ids[0], 3, true).unwrap();
    let mut read = bench.push(&ids[1], 3, false).unwrap();
    bench.pipe.drain();
    deliver(bench.pipe.release_writes(&"moved".into()));
    assert_eq!(&*lost(&mut write).why, "moved");
    assert!(read.try_recv().is_err());
}

#[tokio::test]
async fn a_gap_between_parts_is_an_error() {
    let mut bench = Bench::new();
    let id = bench.ledger.open();
    let mut receiver = bench.push(&id, 3, false).unwrap();
    let part = |first_statement, more| wire::Reply {
        id: id.get(),
        results: vec![wire::StatementResult::default()],
        first_statement,
        more,
        ..wire::Reply::default()
    };
    assert!(bench.pipe.reply(part(0, true), 1000).is_none());
    deliver(bench.pipe.reply(part(2, false), 1000).into_iter().collect());
    let reply = receiver.try_recv().unwrap().unwrap();
    assert_eq!(reply.error.unwrap().code(), wire::ErrorCode::Internal);
}
