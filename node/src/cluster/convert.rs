//! openraft's types as wire messages and back.

use halite_log::{Entry, EntryPayload, LogId, Membership, Payload, TypeConfig, Vote};
use halite_proto::v1;
use openraft::entry::RaftEntry as _;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::vote::RaftLeaderId as _;

/// A message that no Halite node sends.
#[derive(Debug, thiserror::Error)]
#[error("malformed peer message: {0}")]
pub(crate) struct Malformed(pub(crate) String);

fn missing(field: &str) -> Malformed {
    Malformed(format!("missing field={field}"))
}

pub(crate) fn log_id_to_wire(id: &LogId) -> v1::LogId {
    v1::LogId {
        term: id.committed_leader_id().term,
        node_id: 0,
        index: id.index(),
    }
}

pub(crate) fn log_id_from_wire(id: &v1::LogId) -> LogId {
    LogId::new_term_index(id.term, id.index)
}

pub(crate) fn vote_to_wire(vote: &Vote) -> v1::RaftVote {
    v1::RaftVote {
        term: vote.leader_id.term,
        node_id: *vote.leader_id.node_id(),
        committed: vote.committed,
    }
}

pub(crate) fn vote_from_wire(vote: &v1::RaftVote) -> Vote {
    if vote.committed {
        Vote::new_committed(vote.term, vote.node_id)
    } else {
        Vote::new(vote.term, vote.node_id)
    }
}

fn entry_to_wire(entry: Entry) -> Result<v1::RaftEntry, Malformed> {
    use v1::raft_entry::Payload as Wire;
    let log_id = Some(log_id_to_wire(&entry.log_id()));
    let payload = match entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(payload) => Some(Wire::Normal(payload.0)),
        EntryPayload::Membership(membership) => {
            let json = serde_json::to_vec(&membership)
                .map_err(|e| Malformed(format!("membership: {e}")))?;
            Some(Wire::Membership(json.into()))
        }
    };
    Ok(v1::RaftEntry { log_id, payload })
}

fn entry_from_wire(entry: v1::RaftEntry) -> Result<Entry, Malformed> {
    use v1::raft_entry::Payload as Wire;
    let log_id = log_id_from_wire(entry.log_id.as_ref().ok_or_else(|| missing("log_id"))?);
    let payload = match entry.payload {
        None => EntryPayload::Blank,
        Some(Wire::Normal(bytes)) => EntryPayload::Normal(Payload(bytes)),
        Some(Wire::Membership(json)) => {
            let membership: Membership =
                serde_json::from_slice(&json).map_err(|e| Malformed(format!("membership: {e}")))?;
            EntryPayload::Membership(membership)
        }
    };
    Ok(Entry::new(log_id, payload))
}

pub(crate) fn append_to_wire(
    request: AppendEntriesRequest<TypeConfig>,
) -> Result<v1::AppendRequest, Malformed> {
    Ok(v1::AppendRequest {
        vote: Some(vote_to_wire(&request.vote)),
        prev_log_id: request.prev_log_id.as_ref().map(log_id_to_wire),
        leader_commit: request.leader_commit.as_ref().map(log_id_to_wire),
        entries: request
            .entries
            .into_iter()
            .map(entry_to_wire)
            .collect::<Result<_, _>>()?,
    })
}

pub(crate) fn append_from_wire(
    request: v1::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    Ok(AppendEntriesRequest {
        vote: vote_from_wire(request.vote.as_ref().ok_or_else(|| missing("vote"))?),
        prev_log_id: request.prev_log_id.as_ref().map(log_id_from_wire),
        leader_commit: request.leader_commit.as_ref().map(log_id_from_wire),
        entries: request
            .entries
            .into_iter()
            .map(entry_from_wire)
            .collect::<Result<_, _>>()?,
    })
}

pub(crate) fn append_result_to_wire(result: StreamAppendResult<TypeConfig>) -> v1::AppendResponse {
    use v1::append_response::Result as Wire;
    let result = match result {
        Ok(matching) => Wire::Success(v1::AppendSuccess {
            matching: matching.as_ref().map(log_id_to_wire),
        }),
        Err(StreamAppendError::Conflict(at)) => Wire::Conflict(log_id_to_wire(&at)),
        Err(StreamAppendError::HigherVote(vote)) => Wire::HigherVote(vote_to_wire(&vote)),
    };
    v1::AppendResponse {
        result: Some(result),
    }
}

pub(crate) fn append_result_from_wire(
    response: v1::AppendResponse,
) -> Result<StreamAppendResult<TypeConfig>, Malformed> {
    use v1::append_response::Result as Wire;
    Ok(match response.result.ok_or_else(|| missing("result"))? {
        Wire::Success(success) => Ok(success.matching.as_ref().map(log_id_from_wire)),
        Wire::Conflict(at) => Err(StreamAppendError::Conflict(log_id_from_wire(&at))),
        Wire::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_from_wire(&vote))),
    })
}

pub(crate) fn vote_request_to_wire(
    request: &VoteRequest<TypeConfig>,
    pre_vote: bool,
) -> v1::VoteRequest {
    v1::VoteRequest {
        vote: Some(vote_to_wire(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(log_id_to_wire),
        leadership_transfer: request.leadership_transfer,
        pre_vote,
    }
}

pub(crate) fn vote_request_from_wire(
    request: &v1::VoteRequest,
) -> Result<VoteRequest<TypeConfig>, Malformed> {
    let vote = vote_from_wire(request.vote.as_ref().ok_or_else(|| missing("vote"))?);
    let mut vote_request =
        VoteRequest::new(vote, request.last_log_id.as_ref().map(log_id_from_wire));
    vote_request.leadership_transfer = request.leadership_transfer;
    Ok(vote_request)
}

pub(crate) fn vote_response_to_wire(response: &VoteResponse<TypeConfig>) -> v1::VoteResponse {
    v1::VoteResponse {
        vote: Some(vote_to_wire(&response.vote)),
        last_log_id: response.last_log_id.as_ref().map(log_id_to_wire),
        granted: response.vote_granted,
    }
}

pub(crate) fn vote_response_from_wire(
    response: &v1::VoteResponse,
) -> Result<VoteResponse<TypeConfig>, Malformed> {
    let vote = vote_from_wire(response.vote.as_ref().ok_or_else(|| missing("vote"))?);
    Ok(VoteResponse::new(
        vote,
        response.last_log_id.as_ref().map(log_id_from_wire),
        response.granted,
    ))
}

pub(crate) fn transfer_to_wire(
    request: &TransferLeaderRequest<TypeConfig>,
) -> v1::TransferLeaderRequest {
    v1::TransferLeaderRequest {
        from: Some(vote_to_wire(request.from_leader())),
        to: *request.to_node_id(),
        last_log_id: request.last_log_id().map(log_id_to_wire),
    }
}

pub(crate) fn transfer_from_wire(
    request: &v1::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Malformed> {
    let from = vote_from_wire(request.from.as_ref().ok_or_else(|| missing("from"))?);
    Ok(TransferLeaderRequest::new(
        from,
        request.to,
        request.last_log_id.as_ref().map(log_id_from_wire),
    ))
}

pub(crate) fn transfer_response_to_wire(
    response: &TransferLeaderResponse<TypeConfig>,
) -> v1::TransferLeaderResponse {
    match response {
        Ok(()) => v1::TransferLeaderResponse::default(),
        Err(TransferLeaderError::VoteChanged { actual, .. }) => v1::TransferLeaderResponse {
            actual_vote: Some(vote_to_wire(actual)),
            ..v1::TransferLeaderResponse::default()
        },
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => v1::TransferLeaderResponse {
            log_not_flushed: true,
            actual_log_id: actual.as_ref().map(log_id_to_wire),
            ..v1::TransferLeaderResponse::default()
        },
    }
}

pub(crate) fn transfer_response_from_wire(
    request: &TransferLeaderRequest<TypeConfig>,
    response: &v1::TransferLeaderResponse,
) -> TransferLeaderResponse<TypeConfig> {
    if let Some(actual) = &response.actual_vote {
        let (expected, actual) = (*request.from_leader(), vote_from_wire(actual));
        return Err(TransferLeaderError::VoteChanged { expected, actual });
    }
    if response.log_not_flushed {
        let actual = response.actual_log_id.as_ref().map(log_id_from_wire);
        return Err(TransferLeaderError::LogNotFlushed {
            expected: request.last_log_id().cloned(),
            actual,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn append_request_survives_the_wire() {
        let entries = vec![
            Entry::new(LogId::new_term_index(3, 8), EntryPayload::Blank),
            Entry::new(
                LogId::new_term_index(3, 9),
                EntryPayload::Normal(Payload(Bytes::from_static(b"x"))),
            ),
            Entry::new(
                LogId::new_term_index(3, 10),
                EntryPayload::Membership(Membership::default()),
            ),
        ];
        let request = AppendEntriesRequest {
            vote: Vote::new_committed(3, 2),
            prev_log_id: Some(LogId::new_term_index(2, 7)),
            entries,
            leader_commit: Some(LogId::new_term_index(3, 8)),
        };
        let back =
            append_from_wire(append_to_wire(request.clone()).expect("to wire")).expect("from wire");
        assert_eq!(format!("{request:?}"), format!("{back:?}"));
    }

    #[test]
    fn message_without_vote_is_an_error() {
        assert!(append_from_wire(v1::AppendRequest::default()).is_err());
        assert!(vote_request_from_wire(&v1::VoteRequest::default()).is_err());
    }
}
