//! The JetStream API: subjects, errors, and what answers each call.

pub mod call;
pub mod enter;
pub mod errors;
pub mod facts;
pub mod verdict;
pub mod meta { use super::{facts::Facts,call::Call,verdict::*}; use crate::cluster::table::Asked; pub fn decide(_f:&Facts,_c:Call,_a:Option<Asked>,_h:Option<&[u8]>,_b:&[u8])->MetaVerdict{unimplemented!()} }
pub mod stream { use super::{facts::Facts,call::Call,verdict::*}; use crate::stream::*; use crate::group::GroupStatus; use bytes::Bytes; pub fn decide(_f:&Facts,_s:&mut Stream,_st:&GroupStatus,_c:Call,_a:Option<Answer>,_b:&[u8])->StreamVerdict{unimplemented!()} pub fn created(_f:&Facts,_s:&Stream,_st:&GroupStatus,_u:bool)->Bytes{unimplemented!()} }
pub mod consumer { use super::{facts::Facts,call::Call,verdict::*}; use crate::stream::*; use crate::consumer::Consumer; use crate::ids::Place; use crate::group::GroupStatus; use bytes::Bytes; #[allow(clippy::too_many_arguments)] pub fn decide(_f:&Facts,_cc:&mut Consumer,_s:&Stream,_st:&GroupStatus,_c:Call,_o:Place,_r:Option<Bytes>,_b:&[u8])->ConsumerVerdict{unimplemented!()} pub fn created(_f:&Facts,_c:&Consumer,_s:&Stream,_st:&GroupStatus)->Bytes{unimplemented!()} }
pub mod message { use super::{facts::Facts,verdict::*}; use crate::stream::*; use bytes::Bytes; pub fn render(_f:&Facts,_s:&Stream,_q:u64,_h:Render,_m:&StoredMessage)->(Option<Bytes>,Bytes){unimplemented!()} pub fn lost(_h:Render)->(Option<Bytes>,Bytes){unimplemented!()} }
pub mod list { use super::{facts::Facts,verdict::*}; use bytes::Bytes; pub fn finish(_f:&Facts,_k:&GatherKind,_p:&[Option<Bytes>])->Bytes{unimplemented!()} }
pub mod render { use super::{call::Call,errors::ApiError}; use bytes::Bytes; pub fn error(_c:Call,_e:&ApiError)->Bytes{unimplemented!()} pub fn status(_c:u16,_t:&str)->Bytes{unimplemented!()} pub fn dropped_stream()->Bytes{unimplemented!()} pub fn dropped_consumer()->Bytes{unimplemented!()} }
