//! From what the groups say to the machine that it concerns.

use bytes::Bytes;

use super::{HostedStream, JetStream, JsOutput};
use crate::api::errors;
use crate::cluster::view::View;
use crate::event::Level;
use crate::group::{GroupOutput, LogLevel};
use crate::ids::{GroupId, Now};
use crate::stream::config::StorageKind;

impl JetStream {
    pub(super) fn on_group(&mut self, now: Now, view: &View, output: GroupOutput) {
        match output {
            GroupOutput::Recovered(found) => self.on_recovered(now, view, &found),
            GroupOutput::Restore { group, checkpoint } => self.on_restore(group, checkpoint),
            GroupOutput::RestoreEntry { group, index, body } => self.on_restore_entry(group, index, &body),
            GroupOutput::Restored { group, committed } => self.on_restored(now, view, group, committed),
            GroupOutput::Install { group, checkpoint, .. } => self.on_install(group, &checkpoint),
            GroupOutput::Appended { group, index, body } => self.on_appended(group, index, &body),
            GroupOutput::Truncated { group, from } => self.on_truncated(group, from),
            GroupOutput::Committed { group, upto } => self.on_committed(now, view, group, upto),
            GroupOutput::Role { group, leading, term, leader } => {
                let led = self.leads(group);
                self.on_role(now, view, group, leading, term);
                self.tell_role(now, view, group, led, leader);
            }
            GroupOutput::Whole { group, upto } => self.on_whole(now, view, group, upto),
            GroupOutput::Removed { group } => self.on_removed(now, group),
            GroupOutput::Read { token, result, .. } => self.on_read(now, view, token, result),
            GroupOutput::WantCheckpoint { group } => self.checkpoint(now, group),
            GroupOutput::Checkpointed { group, index } => self.on_checkpointed(now, view, group, index),
            GroupOutput::CheckpointRefused { group } => self.on_checkpoint_refused(group),
            GroupOutput::Send { to, msg } => self.out.push_back(JsOutput::Send { to, msg }),
            GroupOutput::SpaceLow => self.on_space(now, true),
            GroupOutput::SpaceBack => self.on_space(now, false),
            GroupOutput::SpaceWanted => self.give_space_back(now),
            GroupOutput::Broken { why } => self.out.push_back(JsOutput::Broken { why }),
            GroupOutput::Log { group: Some(group), level, text } => self.log_of(group, level_of(level), &text),
            GroupOutput::Log { group: None, level, text } => self.log(level_of(level), text),
        }
    }

    /// Said once: the store is full, or has space again.
    fn on_space(&mut self, now: Now, full: bool) {
        if full {
            self.log(
                Level::Warn,
                "the store is full: publishes are refused until space comes back (purge or delete, lower limits, \
                 a larger disk or max_file_store)"
                    .into(),
            );
            self.tell_server(now, "OUT_OF_STORAGE", "out_of_space");
        } else {
            self.log(Level::Info, "the store has space again".into());
        }
        for hosted in self.streams.values_mut() {
            hosted.stream.store_is_full(full && hosted.stream.config().storage == StorageKind::File);
        }
        self.give_space_back(now);
    }

    /// Streams and consumers that have something to give back to a full store take a checkpoint, without which it does not come back.
    fn give_space_back(&mut self, now: Now) {
        let wanting = self.streams.iter().filter(|(_, hosted)| hosted.wants_checkpoint());
        let full = self.groups.is_full();
        let consumers = self.consumers.iter().filter(|(_, hosted)| hosted.wants_checkpoint(full));
        let consumers = consumers.map(|(group, _)| *group);
        let wanting: Vec<GroupId> = wanting.map(|(group, _)| *group).chain(consumers).collect();
        wanting.into_iter().for_each(|group| self.checkpoint(now, group));
    }

    fn on_restore(&mut self, group: GroupId, checkpoint: Option<Bytes>) {
        let Some(state) = checkpoint else { return };
        let done = if group == GroupId::META {
            self.restore_meta(&state)
        } else if let Some(hosted) = self.streams.get_mut(&group) {
            hosted.stream.restore(&state).map_err(|e| format!("{e:?}"))
        } else if let Some(hosted) = self.consumers.get_mut(&group) {
            hosted.consumer.restore(&state).map_err(|e| format!("{e:?}"))
        } else {
            Ok(())
        };
        self.must(group, done);
    }

    fn on_restore_entry(&mut self, group: GroupId, index: u64, body: &Bytes) {
        let done = if group == GroupId::META {
            self.pend_meta(index, body)
        } else if let Some(hosted) = self.streams.get_mut(&group) {
            hosted.stream.recover_entry(index, body).map_err(|e| format!("{e:?}"))
        } else if let Some(hosted) = self.consumers.get_mut(&group) {
            hosted.consumer.recover_entry(index, body).map_err(|e| format!("{e:?}"))
        } else {
            Ok(())
        };
        self.must(group, done);
    }

    fn on_restored(&mut self, now: Now, view: &View, group: GroupId, committed: u64) {
        if group == GroupId::META {
            self.meta_restored(now, view, committed);
        } else if let Some(hosted) = self.streams.get_mut(&group) {
            let done = hosted.stream.recovered(now, committed).map_err(|e| format!("{e:?}"));
            hosted.restored = true;
            hosted.created |= hosted.stream.applied() > 0;
            let applied = hosted.stream.applied();
            self.must(group, done);
            self.groups.applied(group, applied);
            self.drain_stream(now, view, group);
            self.wake_readers(group);
        } else if let Some(hosted) = self.consumers.get_mut(&group) {
            hosted.consumer.recovered(now, committed);
            hosted.restored = true;
            let applied = hosted.consumer.applied();
            self.groups.applied(group, applied);
            self.busy_consumers.insert(group);
        }
    }

    fn on_install(&mut self, group: GroupId, state: &Bytes) {
        let done = if group == GroupId::META {
            self.restore_meta(state)
        } else if let Some(hosted) = self.streams.get_mut(&group) {
            hosted.stream.install(state).map_err(|e| format!("{e:?}"))
        } else if let Some(hosted) = self.consumers.get_mut(&group) {
            hosted.consumer.install(state).map_err(|e| format!("{e:?}"))
        } else {
            Ok(())
        };
        self.must(group, done);
    }

    fn on_appended(&mut self, group: GroupId, index: u64, body: &Bytes) {
        let done = if group == GroupId::META {
            self.pend_meta(index, body)
        } else if let Some(hosted) = self.streams.get_mut(&group) {
            hosted.stream.appended(index, body).map_err(|e| format!("{e:?}"))
        } else if let Some(hosted) = self.consumers.get_mut(&group) {
            hosted.consumer.appended(index, body).map_err(|e| format!("{e:?}"))
        } else {
            Ok(())
        };
        self.must(group, done);
    }

    fn on_truncated(&mut self, group: GroupId, from: u64) {
        if group == GroupId::META {
            self.unpend_meta(from);
        } else if let Some(hosted) = self.streams.get_mut(&group) {
            let full = self.groups.is_crowded(group);
            let error = if full { errors::INSUFFICIENT_RESOURCES } else { errors::CLUSTER_NOT_AVAIL };
            hosted.stream.truncated(from, &error);
        } else if let Some(hosted) = self.consumers.get_mut(&group) {
            hosted.consumer.truncated(from);
        }
    }

    fn on_committed(&mut self, now: Now, view: &View, group: GroupId, upto: u64) {
        if group == GroupId::META {
            self.apply_meta(now, view, upto);
        } else if let Some(hosted) = self.streams.get_mut(&group) {
            hosted.stream.apply(now, upto);
            self.drain_stream(now, view, group);
        } else if let Some(hosted) = self.consumers.get_mut(&group) {
            hosted.consumer.apply(now, upto);
            self.busy_consumers.insert(group);
        }
        // Before any checkpoint: the group takes none of what it does not know to be applied.
        self.groups.applied(group, upto);
        let stream = self.streams.get(&group).is_some_and(HostedStream::wants_checkpoint);
        let consumer = self.consumers.get(&group).is_some_and(|hosted| hosted.wants_checkpoint(self.groups.is_full()));
        if stream || consumer {
            self.checkpoint(now, group);
        }
    }

    pub(super) fn on_role(&mut self, now: Now, view: &View, group: GroupId, leading: bool, term: u64) {
        if group == GroupId::META {
            return self.meta_role(now, view, leading, term);
        }
        let leading = leading && !self.is_evicted();
        if self.streams.contains_key(&group) {
            self.stream_role(now, group, leading, term);
        } else if self.consumers.contains_key(&group) {
            self.consumer_role(now, view, group, leading, term);
        }
    }

    /// Hands a machine's state over, because the group needs one or the machine's history has grown long.
    fn checkpoint(&mut self, now: Now, group: GroupId) {
        let state = if group == GroupId::META {
            Some((self.table.applied, self.table.checkpoint()))
        } else if let Some(hosted) = self.streams.get_mut(&group) {
            Some((hosted.stream.applied(), hosted.stream.checkpoint()))
        } else {
            self.consumers.get_mut(&group).map(|hosted| (hosted.consumer.applied(), hosted.consumer.checkpoint()))
        };
        let Some((applied, state)) = state else { return };
        let written = self.groups.checkpoint(now, group, applied, state);
        if let Some(hosted) = self.streams.get_mut(&group) {
            hosted.checkpointing |= written;
            if !written {
                hosted.stream.checkpoint_refused();
            }
        } else if let Some(hosted) = self.consumers.get_mut(&group) {
            hosted.checkpointing |= written;
        }
    }

    /// The checkpoint that was on its way could not be stored to its end: another one is taken when it is worth it.
    fn on_checkpoint_refused(&mut self, group: GroupId) {
        if let Some(hosted) = self.streams.get_mut(&group) {
            hosted.checkpointing = false;
            hosted.stream.checkpoint_refused();
        } else if let Some(hosted) = self.consumers.get_mut(&group) {
            hosted.checkpointing = false;
        }
    }

    fn on_checkpointed(&mut self, now: Now, view: &View, group: GroupId, index: u64) {
        if let Some(hosted) = self.streams.get_mut(&group) {
            hosted.checkpointing = false;
            hosted.stream.checkpointed(index);
            self.drain_stream(now, view, group);
        } else if let Some(hosted) = self.consumers.get_mut(&group) {
            hosted.checkpointing = false;
            hosted.consumer.checkpointed(index);
            self.drain_consumer(now, group);
        }
    }

    /// A body that passed its checksums and its quorum must make sense: if not, this build and the log disagree, and
    /// going on would make this replica differ from the others in silence.
    fn must(&mut self, group: GroupId, done: Result<(), String>) {
        if let Err(why) = done {
            let title = self.title(group);
            let why = format!("the log of {title} cannot be understood by this version: {why}");
            self.out.push_back(JsOutput::Broken { why });
        }
    }
}

fn level_of(level: LogLevel) -> Level {
    match level {
        LogLevel::Debug => Level::Debug,
        LogLevel::Info => Level::Info,
        LogLevel::Warn => Level::Warn,
        LogLevel::Error => Level::Error,
    }
}
