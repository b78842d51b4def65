//! XEP-0060 on SQLite.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::{Sqlite, all, blob, execute, optional};
use crate::{
    Error, Fence, PublishOutcome, Pubsub, PubsubItem, PubsubItemHead, PubsubNode, PubsubRelation,
    Timestamp,
};

const ITEM: &str = "i.id, i.publisher, i.payload, i.at";

fn item_at(row: &Row<'_>, first: usize) -> rusqlite::Result<PubsubItem> {
    Ok(PubsubItem {
        id: row.get(first)?,
        publisher: row.get(first + 1)?,
        payload: blob(row, first + 2)?.into(),
        at: Timestamp(row.get(first + 3)?),
    })
}

fn node(row: &Row<'_>) -> rusqlite::Result<PubsubNode> {
    Ok(PubsubNode {
        node: row.get(0)?,
        config: blob(row, 1)?.into(),
        version: row.get(2)?,
        created_at: Timestamp(row.get(3)?),
    })
}

fn relation(row: &Row<'_>) -> rusqlite::Result<PubsubRelation> {
    Ok(PubsubRelation {
        node: row.get(0)?,
        jid: row.get(1)?,
        subid: row.get(2)?,
        state: row.get(3)?,
        options: blob(row, 4)?.into(),
    })
}

fn node_key(connection: &Connection, service: &str, node: &str) -> Result<Option<i64>, Error> {
    let sql = "SELECT id FROM pubsub_node WHERE service = ?1 AND node = ?2";
    optional(connection, sql, [service, node], |row| row.get(0))
}

/// Deletes all but the newest `items_max`; answers their ids, oldest first.
fn trim(connection: &Connection, key: i64, items_max: u32) -> Result<Vec<String>, Error> {
    let sql =
        "SELECT id, seq FROM pubsub_item WHERE node = ?1 ORDER BY seq DESC LIMIT -1 OFFSET ?2";
    let mut going: Vec<(String, i64)> = all(connection, sql, params![key, items_max], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    going.reverse();
    if let Some((_, newest)) = going.last() {
        execute(
            connection,
            "DELETE FROM pubsub_item WHERE node = ?1 AND seq <= ?2",
            [key, *newest],
        )?;
    }
    Ok(going.into_iter().map(|(id, _)| id).collect())
}

/// Bytes of all items of a service.
fn stored_bytes(connection: &Connection, service: &str) -> Result<u64, Error> {
    let sql = "SELECT coalesce(sum(bytes), 0) FROM pubsub_node WHERE service = ?1";
    let bytes: Option<i64> = optional(connection, sql, [service], |row| row.get(0))?;
    Ok(bytes.unwrap_or(0).unsigned_abs())
}

fn publish(
    connection: &Connection,
    key: i64,
    item: &PubsubItem,
    items_max: u32,
) -> Result<PublishOutcome, Error> {
    let sql = "UPDATE pubsub_node SET item_seq = item_seq + 1 WHERE id = ?1 RETURNING item_seq";
    let seq: i64 = optional(connection, sql, [key], |row| row.get(0))?
        .ok_or(Error::Conflict("the pubsub node is gone"))?;
    let sql = "DELETE FROM pubsub_item WHERE node = ?1 AND id = ?2";
    let replaced = execute(connection, sql, params![key, item.id])? > 0;
    execute(
        connection,
        "INSERT INTO pubsub_item (node, id, seq, publisher, payload, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            key,
            item.id,
            seq,
            item.publisher,
            &item.payload[..],
            item.at.0
        ],
    )?;
    Ok(PublishOutcome {
        replaced,
        trimmed: trim(connection, key, items_max)?,
    })
}

#[async_trait]
impl Pubsub for Sqlite {
    async fn pubsub_create(
        &self,
        fence: Fence,
        service: &str,
        node: &str,
        config: &[u8],
        nodes_max: u32,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (service, node, config) = (service.to_owned(), node.to_owned(), config.to_vec());
        self.write(fence, move |connection| {
            let sql = "SELECT count(*) FROM pubsub_node WHERE service = ?1";
            let count: Option<u32> = optional(connection, sql, [&service], |row| row.get(0))?;
            if count.unwrap_or(0) >= nodes_max {
                return Err(Error::Conflict("the service has too many nodes"));
            }
            let rows = execute(
                connection,
                "INSERT INTO pubsub_node (service, node, config, created_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO NOTHING",
                params![service, node, config, now.0],
            )?;
            if rows == 0 {
                Err(Error::Conflict("the pubsub node exists"))
            } else {
                Ok(())
            }
        })
        .await
    }

    async fn pubsub_node(&self, service: &str, name: &str) -> Result<Option<PubsubNode>, Error> {
        let (service, name) = (service.to_owned(), name.to_owned());
        let sql = "SELECT node, config, version, created_at FROM pubsub_node WHERE service = ?1 AND node = ?2";
        self.read(move |c| optional(c, sql, [service, name], node))
            .await
    }

    async fn pubsub_nodes(
        &self,
        service: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<PubsubNode>, Error> {
        let (service, after) = (service.to_owned(), after.map(str::to_owned));
        let sql = "SELECT node, config, version, created_at FROM pubsub_node
                   WHERE service = ?1 AND (?2 IS NULL OR node > ?2) ORDER BY node LIMIT ?3";
        self.read(move |c| all(c, sql, params![service, after, limit], node))
            .await
    }

    async fn pubsub_configure(
        &self,
        fence: Fence,
        service: &str,
        node: &str,
        config: &[u8],
        version: i64,
        items_max: u32,
    ) -> Result<Vec<String>, Error> {
        let (service, node, config) = (service.to_owned(), node.to_owned(), config.to_vec());
        self.write(fence, move |connection| {
            let key: Option<i64> = optional(
                connection,
                "UPDATE pubsub_node SET config = ?3, version = version + 1
                 WHERE service = ?1 AND node = ?2 AND version = ?4 RETURNING id",
                params![service, node, config, version],
                |row| row.get(0),
            )?;
            trim(
                connection,
                key.ok_or(Error::Conflict("the pubsub node has changed"))?,
                items_max,
            )
        })
        .await
    }

    async fn pubsub_delete(&self, fence: Fence, service: &str, node: &str) -> Result<bool, Error> {
        let (service, node) = (service.to_owned(), node.to_owned());
        let sql = "DELETE FROM pubsub_node WHERE service = ?1 AND node = ?2";
        self.write(fence, move |c| Ok(execute(c, sql, [service, node])? > 0))
            .await
    }

    async fn pubsub_publish(
        &self,
        fence: Fence,
        service: &str,
        node: &str,
        item: &PubsubItem,
        items_max: u32,
        bytes_max: u64,
    ) -> Result<Option<PublishOutcome>, Error> {
        let (service, node, item) = (service.to_owned(), node.to_owned(), item.clone());
        self.write(fence, move |connection| {
            let Some(key) = node_key(connection, &service, &node)? else {
                return Ok(None);
            };
            let before = stored_bytes(connection, &service)?;
            let outcome = publish(connection, key, &item, items_max)?;
            let after = stored_bytes(connection, &service)?;
            if after > before && after > bytes_max {
                return Err(Error::Full("the items of a pubsub service"));
            }
            Ok(Some(outcome))
        })
        .await
    }

    async fn pubsub_items(
        &self,
        service: &str,
        node: &str,
        limit: u32,
    ) -> Result<Vec<PubsubItem>, Error> {
        let (service, node) = (service.to_owned(), node.to_owned());
        let sql = format!(
            "SELECT {ITEM} FROM pubsub_item i JOIN pubsub_node n ON n.id = i.node
             WHERE n.service = ?1 AND n.node = ?2 ORDER BY i.seq DESC LIMIT ?3"
        );
        self.read(move |c| {
            let mut items = all(c, &sql, params![service, node, limit], |row| {
                item_at(row, 0)
            })?;
            items.reverse();
            Ok(items)
        })
        .await
    }

    async fn pubsub_item_heads(
        &self,
        service: &str,
        node: &str,
        limit: u32,
    ) -> Result<Vec<PubsubItemHead>, Error> {
        let (service, node) = (service.to_owned(), node.to_owned());
        // The length of a blob is known without reading it.
        let sql = "SELECT i.id, length(i.payload), i.at FROM pubsub_item i JOIN pubsub_node n ON n.id = i.node
                   WHERE n.service = ?1 AND n.node = ?2 ORDER BY i.seq DESC LIMIT ?3";
        self.read(move |c| {
            let mut heads = all(c, sql, params![service, node, limit], |row| {
                Ok(PubsubItemHead {
                    id: row.get(0)?,
                    bytes: row.get::<_, i64>(1)?.unsigned_abs(),
                    at: Timestamp(row.get(2)?),
                })
            })?;
            heads.reverse();
            Ok(heads)
        })
        .await
    }

    async fn pubsub_items_by_id(
        &self,
        service: &str,
        node: &str,
        ids: &[String],
    ) -> Result<Vec<PubsubItem>, Error> {
        let (service, node, ids) = (service.to_owned(), node.to_owned(), ids.to_vec());
        self.read(move |connection| {
            let Some(key) = node_key(connection, &service, &node)? else {
                return Ok(Vec::new());
            };
            let sql = format!("SELECT {ITEM} FROM pubsub_item i WHERE i.node = ?1 AND i.id = ?2");
            let mut items = Vec::new();
            for id in &ids {
                items.extend(optional(connection, &sql, params![key, id], |row| {
                    item_at(row, 0)
                })?);
            }
            Ok(items)
        })
        .await
    }

    async fn pubsub_last_items(
        &self,
        service: &str,
        nodes: &[String],
    ) -> Result<Vec<(String, PubsubItem)>, Error> {
        let (service, nodes) = (service.to_owned(), nodes.to_vec());
        let sql = format!(
            "SELECT n.node, {ITEM} FROM pubsub_node n JOIN pubsub_item i ON i.node = n.id
             WHERE n.service = ?1 AND n.node = ?2 ORDER BY i.seq DESC LIMIT 1"
        );
        self.read(move |connection| {
            let mut items = Vec::new();
            for name in &nodes {
                items.extend(optional(connection, &sql, [&service, name], |row| {
                    Ok((row.get(0)?, item_at(row, 1)?))
                })?);
            }
            Ok(items)
        })
        .await
    }

    async fn pubsub_retract(
        &self,
        fence: Fence,
        service: &str,
        node: &str,
        ids: &[String],
    ) -> Result<Vec<String>, Error> {
        let (service, node, ids) = (service.to_owned(), node.to_owned(), ids.to_vec());
        self.write(fence, move |connection| {
            let Some(key) = node_key(connection, &service, &node)? else {
                return Ok(Vec::new());
            };
            let mut gone = Vec::new();
            for id in ids {
                if execute(
                    connection,
                    "DELETE FROM pubsub_item WHERE node = ?1 AND id = ?2",
                    params![key, id],
                )? > 0
                {
                    gone.push(id);
                }
            }
            Ok(gone)
        })
        .await
    }

    async fn pubsub_purge(&self, fence: Fence, service: &str, node: &str) -> Result<u64, Error> {
        let (service, node) = (service.to_owned(), node.to_owned());
        let sql = "DELETE FROM pubsub_item WHERE node =
                   (SELECT id FROM pubsub_node WHERE service = ?1 AND node = ?2)";
        self.write(fence, move |c| Ok(execute(c, sql, [service, node])? as u64))
            .await
    }

    async fn pubsub_subscribe(
        &self,
        fence: Fence,
        service: &str,
        subscription: &PubsubRelation,
        subscriptions_max: u32,
    ) -> Result<(), Error> {
        let (service, new) = (service.to_owned(), subscription.clone());
        self.write(fence, move |connection| {
            let key = node_key(connection, &service, &new.node)?.ok_or(Error::Conflict("no such pubsub node"))?;
            let sql = "SELECT count(*) FROM pubsub_subscription WHERE node = ?1 AND NOT (jid = ?2 AND subid = ?3)";
            let others: Option<u32> = optional(connection, sql, params![key, new.jid, new.subid], |row| row.get(0))?;
            if others.unwrap_or(0) >= subscriptions_max {
                return Err(Error::Conflict("the pubsub node has too many subscriptions"));
            }
            execute(
                connection,
                "INSERT INTO pubsub_subscription (node, jid, subid, state, options) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (node, jid, subid) DO UPDATE SET state = excluded.state, options = excluded.options",
                params![key, new.jid, new.subid, new.state, &new.options[..]],
            )
            .map(drop)
        })
        .await
    }

    async fn pubsub_unsubscribe(
        &self,
        fence: Fence,
        service: &str,
        node: &str,
        jid: &str,
        subid: Option<&str>,
    ) -> Result<bool, Error> {
        let (service, node, jid) = (service.to_owned(), node.to_owned(), jid.to_owned());
        let subid = subid.map(str::to_owned);
        let sql = "DELETE FROM pubsub_subscription WHERE jid = ?3 AND (?4 IS NULL OR subid = ?4) AND node =
                   (SELECT id FROM pubsub_node WHERE service = ?1 AND node = ?2)";
        self.write(fence, move |c| {
            Ok(execute(c, sql, params![service, node, jid, subid])? > 0)
        })
        .await
    }

    async fn pubsub_subscriptions(
        &self,
        service: &str,
        node: Option<&str>,
        jid: Option<&str>,
    ) -> Result<Vec<PubsubRelation>, Error> {
        let (service, node, jid) = (
            service.to_owned(),
            node.map(str::to_owned),
            jid.map(str::to_owned),
        );
        let sql = "SELECT n.node, s.jid, s.subid, s.state, s.options
                   FROM pubsub_node n JOIN pubsub_subscription s ON s.node = n.id
                   WHERE n.service = ?1 AND (?2 IS NULL OR n.node = ?2) AND (?3 IS NULL OR s.jid = ?3)
                   ORDER BY n.node, s.jid, s.subid";
        self.read(move |c| all(c, sql, params![service, node, jid], relation))
            .await
    }

    async fn pubsub_subscriptions_of(
        &self,
        service: &str,
        node: Option<&str>,
        bare: &str,
    ) -> Result<Vec<PubsubRelation>, Error> {
        let (service, node) = (service.to_owned(), node.map(str::to_owned));
        let (bare, resources) = (bare.to_owned(), format!("{bare}/"));
        let sql = "SELECT n.node, s.jid, s.subid, s.state, s.options
                   FROM pubsub_node n JOIN pubsub_subscription s ON s.node = n.id
                   WHERE n.service = ?1 AND (?2 IS NULL OR n.node = ?2)
                   AND (s.jid = ?3 OR substr(s.jid, 1, length(?4)) = ?4) ORDER BY n.node, s.jid, s.subid";
        self.read(move |c| all(c, sql, params![service, node, bare, resources], relation))
            .await
    }

    async fn pubsub_set_affiliation(
        &self,
        fence: Fence,
        service: &str,
        affiliation: &PubsubRelation,
    ) -> Result<(), Error> {
        let (service, new) = (service.to_owned(), affiliation.clone());
        self.write(fence, move |connection| {
            let key = node_key(connection, &service, &new.node)?.ok_or(Error::Conflict("no such pubsub node"))?;
            if new.state == "none" {
                let sql = "DELETE FROM pubsub_affiliation WHERE node = ?1 AND jid = ?2";
                return execute(connection, sql, params![key, new.jid]).map(drop);
            }
            execute(
                connection,
                "INSERT INTO pubsub_affiliation (node, jid, state, options) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (node, jid) DO UPDATE SET state = excluded.state, options = excluded.options",
                params![key, new.jid, new.state, &new.options[..]],
            )
            .map(drop)
        })
        .await
    }

    async fn pubsub_affiliations(
        &self,
        service: &str,
        node: Option<&str>,
        jid: Option<&str>,
    ) -> Result<Vec<PubsubRelation>, Error> {
        let (service, node, jid) = (
            service.to_owned(),
            node.map(str::to_owned),
            jid.map(str::to_owned),
        );
        let sql = "SELECT n.node, a.jid, '', a.state, a.options
                   FROM pubsub_node n JOIN pubsub_affiliation a ON a.node = n.id
                   WHERE n.service = ?1 AND (?2 IS NULL OR n.node = ?2) AND (?3 IS NULL OR a.jid = ?3)
                   ORDER BY n.node, a.jid";
        self.read(move |c| all(c, sql, params![service, node, jid], relation))
            .await
    }
}
