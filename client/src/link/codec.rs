//! gRPC framing for messages that are encoded already.

use bytes::{BufMut, BytesMut};
use halite_proto::v1 as wire;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Sends `SessionRequest`s as the bytes they were built as, receives `SessionResponse`s.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SessionCodec;

impl Codec for SessionCodec {
    type Encode = BytesMut;
    type Decode = wire::SessionResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        *self
    }

    fn decoder(&mut self) -> Self::Decoder {
        *self
    }
}

impl Encoder for SessionCodec {
    type Item = BytesMut;
    type Error = Status;

    fn encode(&mut self, message: BytesMut, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.reserve(message.len());
        dst.put(message);
        Ok(())
    }
}

impl Decoder for SessionCodec {
    type Item = wire::SessionResponse;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        wire::SessionResponse::decode(src)
            .map(Some)
            .map_err(|error| Status::internal(format!("cannot decode the answer: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(64 << 10, 64 << 10)
    }
}
