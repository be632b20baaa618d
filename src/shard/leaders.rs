//! Who leads what, as announced: every core routes publishes and requests by it.
//!
//! An announcement enters at the core that leads, goes to core 0 and from there to every server; core 0 of those tells
//! its own cores.

use super::{LINK_CORE, Shard};
use crate::cluster::wire::{Asset, Lead, NodeMsg};
use crate::event::Mail;
use crate::ids::{AccountId, GroupId, Place, ServerId};

impl Shard {
    /// A leader was announced: by a core of this server (`server` is this one) or by another server.
    pub(super) fn on_lead(&mut self, server: ServerId, lead: Lead) {
        if !self.view.leads.learn(lead.clone()) {
            return;
        }
        self.route_stream(&lead);
        if self.me.core == LINK_CORE {
            if server == self.me.server {
                self.send_all_peers(&NodeMsg::Lead(lead));
            } else {
                self.mail_all(|| Mail::Node {
                    from: Place { server, core: LINK_CORE },
                    msg: NodeMsg::Lead(lead.clone()),
                });
            }
        }
    }

    pub(super) fn on_unlead(&mut self, server: ServerId, group: GroupId, term: u64) {
        if !self.view.leads.unlearn(group, term) {
            return;
        }
        self.forget_stream(group);
        if self.me.core == LINK_CORE {
            let msg = NodeMsg::Unlead { group, term };
            if server == self.me.server {
                self.send_all_peers(&msg);
            } else {
                self.mail_all(|| Mail::Node { from: Place { server, core: LINK_CORE }, msg: msg.clone() });
            }
        }
    }

    /// Publishes find a led stream by its subjects.
    fn route_stream(&mut self, lead: &Lead) {
        if let Asset::Stream { account, subjects, .. } = &lead.asset {
            self.front.stream_subjects(lead.group, *account, Some(subjects.clone()));
        }
    }

    pub(super) fn forget_stream(&mut self, group: GroupId) {
        let accounts: Vec<AccountId> = self.accounts.iter().map(|account| account.id).collect();
        for account in accounts {
            self.front.stream_subjects(group, account, None);
        }
    }
}
