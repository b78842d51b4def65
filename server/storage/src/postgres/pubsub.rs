//! XEP-0060 on PostgreSQL.

use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::pool::Lease;
use super::{Postgres, get, scalar};
use crate::{
    Error, Fence, PublishOutcome, Pubsub, PubsubItem, PubsubItemHead, PubsubNode, PubsubRelation,
    Timestamp,
};

fn item_at(row: &PgRow, first: usize) -> Result<PubsubItem, Error> {
    let payload: Vec<u8> = get(row, first + 2)?;
    Ok(PubsubItem {
        id: get(row, first)?,
        publisher: get(row, first + 1)?,
        payload: payload.into(),
        at: Timestamp(get(row, first + 3)?),
    })
}

fn node(row: &PgRow) -> Result<PubsubNode, Error> {
    let config: Vec<u8> = get(row, 1)?;
    Ok(PubsubNode {
        node: get(row, 0)?,
        config: config.into(),
        version: get(row, 2)?,
        created_at: Timestamp(get(row, 3)?),
    })
}

fn relation(row: &PgRow) -> Result<PubsubRelation, Error> {
    let options: Vec<u8> = get(row, 4)?;
    Ok(PubsubRelation {
        node: get(row, 0)?,
        jid: get(row, 1)?,
        subid: get(row, 2)?,
        state: get(row, 3)?,
        options: options.into(),
    })
}

/// The node's key, the node locked: what hangs on it is changed by one at a time.
async fn lock_node(lease: &mut Lease, service: &str, node: &str) -> Result<Option<i64>, Error> {
    let sql = "SELECT id FROM pubsub_node WHERE service = $1 AND node = $2 FOR UPDATE";
    scalar(
        lease
            .optional(sqlx::query(sql).bind(service).bind(node))
            .await?,
    )
}

/// Deletes all but the newest `items_max`; answers their ids, oldest first.
async fn trim(lease: &mut Lease, key: i64, items_max: u32) -> Result<Vec<String>, Error> {
    let sql = "SELECT id, seq FROM pubsub_item WHERE node = $1 ORDER BY seq DESC OFFSET $2";
    let mut going = lease
        .all(sqlx::query(sql).bind(key).bind(i64::from(items_max)))
        .await?;
    going.reverse();
    if let Some(newest) = going.last() {
        let seq: i64 = get(newest, 1)?;
        let sql = "DELETE FROM pubsub_item WHERE node = $1 AND seq <= $2";
        lease.execute(sqlx::query(sql).bind(key).bind(seq)).await?;
    }
    going.iter().map(|row| get(row, 0)).collect()
}

async fn create(
    lease: &mut Lease,
    service: &str,
    node: &str,
    config: &[u8],
    nodes_max: u32,
    now: Timestamp,
) -> Result<(), Error> {
    // Two that create for one service must not both pass the count.
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
    lease.execute(sqlx::query(lock).bind(service)).await?;
    let count = lease
        .optional(sqlx::query("SELECT count(*) FROM pubsub_node WHERE service = $1").bind(service))
        .await?;
    if scalar::<i64>(count)?.unwrap_or(0) >= i64::from(nodes_max) {
        return Err(Error::Conflict("the service has too many nodes"));
    }
    let sql = "INSERT INTO pubsub_node (service, node, config, created_at) VALUES ($1, $2, $3, $4)
               ON CONFLICT DO NOTHING";
    match lease
        .execute(
            sqlx::query(sql)
                .bind(service)
                .bind(node)
                .bind(config)
                .bind(now.0),
        )
        .await?
    {
        0 => Err(Error::Conflict("the pubsub node exists")),
        _ => Ok(()),
    }
}

async fn configure(
    lease: &mut Lease,
    service: &str,
    node: &str,
    config: &[u8],
    version: i64,
    items_max: u32,
) -> Result<Vec<String>, Error> {
    let sql = "UPDATE pubsub_node SET config = $3, version = version + 1
               WHERE service = $1 AND node = $2 AND version = $4 RETURNING id";
    let statement = sqlx::query(sql)
        .bind(service)
        .bind(node)
        .bind(config)
        .bind(version);
    let key = scalar(lease.optional(statement).await?)?
        .ok_or(Error::Conflict("the pubsub node has changed"))?;
    trim(lease, key, items_max).await
}

/// Bytes of all items of a service.
async fn stored_bytes(lease: &mut Lease, service: &str) -> Result<u64, Error> {
    let sql = "SELECT coalesce(sum(bytes), 0)::bigint FROM pubsub_node WHERE service = $1";
    let row = lease.optional(sqlx::query(sql).bind(service)).await?;
    Ok(scalar::<i64>(row)?.unwrap_or(0).unsigned_abs())
}

async fn publish_within(
    lease: &mut Lease,
    service: &str,
    node: &str,
    item: &PubsubItem,
    items_max: u32,
    bytes_max: u64,
) -> Result<Option<PublishOutcome>, Error> {
    let before = stored_bytes(lease, service).await?;
    let outcome = publish(lease, service, node, item, items_max).await?;
    let after = stored_bytes(lease, service).await?;
    if after > before && after > bytes_max {
        return Err(Error::Full("the items of a pubsub service"));
    }
    Ok(outcome)
}

async fn publish(
    lease: &mut Lease,
    service: &str,
    node: &str,
    item: &PubsubItem,
    items_max: u32,
) -> Result<Option<PublishOutcome>, Error> {
    let sql = "UPDATE pubsub_node SET item_seq = item_seq + 1 WHERE service = $1 AND node = $2 RETURNING id, item_seq";
    let Some(row) = lease
        .optional(sqlx::query(sql).bind(service).bind(node))
        .await?
    else {
        return Ok(None);
    };
    let (key, seq): (i64, i64) = (get(&row, 0)?, get(&row, 1)?);
    let sql = "DELETE FROM pubsub_item WHERE node = $1 AND id = $2";
    let replaced = lease
        .execute(sqlx::query(sql).bind(key).bind(&item.id))
        .await?
        > 0;
    let sql = "INSERT INTO pubsub_item (node, id, seq, publisher, payload, at) VALUES ($1, $2, $3, $4, $5, $6)";
    let statement = sqlx::query(sql)
        .bind(key)
        .bind(&item.id)
        .bind(seq)
        .bind(&item.publisher)
        .bind(&item.payload[..])
        .bind(item.at.0);
    lease.execute(statement).await?;
    Ok(Some(PublishOutcome {
        replaced,
        trimmed: trim(lease, key, items_max).await?,
    }))
}

async fn subscribe(
    lease: &mut Lease,
    service: &str,
    new: &PubsubRelation,
    subscriptions_max: u32,
) -> Result<(), Error> {
    let key = lock_node(lease, service, &new.node)
        .await?
        .ok_or(Error::Conflict("no such pubsub node"))?;
    let sql = "SELECT count(*) FROM pubsub_subscription WHERE node = $1 AND NOT (jid = $2 AND subid = $3)";
    let others = lease
        .optional(sqlx::query(sql).bind(key).bind(&new.jid).bind(&new.subid))
        .await?;
    if scalar::<i64>(others)?.unwrap_or(0) >= i64::from(subscriptions_max) {
        return Err(Error::Conflict(
            "the pubsub node has too many subscriptions",
        ));
    }
    let sql = "INSERT INTO pubsub_subscription (node, jid, subid, state, options) VALUES ($1, $2, $3, $4, $5)
               ON CONFLICT (node, jid, subid) DO UPDATE SET state = excluded.state, options = excluded.options";
    let statement = sqlx::query(sql)
        .bind(key)
        .bind(&new.jid)
        .bind(&new.subid)
        .bind(&new.state)
        .bind(&new.options[..]);
    lease.execute(statement).await.map(drop)
}

async fn set_affiliation(
    lease: &mut Lease,
    service: &str,
    new: &PubsubRelation,
) -> Result<(), Error> {
    let key = lock_node(lease, service, &new.node)
        .await?
        .ok_or(Error::Conflict("no such pubsub node"))?;
    if new.state == "none" {
        let sql = "DELETE FROM pubsub_affiliation WHERE node = $1 AND jid = $2";
        return lease
            .execute(sqlx::query(sql).bind(key).bind(&new.jid))
            .await
            .map(drop);
    }
    let sql = "INSERT INTO pubsub_affiliation (node, jid, state, options) VALUES ($1, $2, $3, $4)
               ON CONFLICT (node, jid) DO UPDATE SET state = excluded.state, options = excluded.options";
    lease
        .execute(
            sqlx::query(sql)
                .bind(key)
                .bind(&new.jid)
                .bind(&new.state)
                .bind(&new.options[..]),
        )
        .await
        .map(drop)
}

#[async_trait]
impl Pubsub for Postgres {
    async fn pubsub_create(
        &self,
        fence: Fence,
        service: &str,
        node: &str,
        config: &[u8],
        nodes_max: u32,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut lease = self.begin(fence).await?;
        let result = create(&mut lease, service, node, config, nodes_max, now).await;
        lease.end(result).await
    }

    async fn pubsub_node(&self, service: &str, name: &str) -> Result<Option<PubsubNode>, Error> {
        let sql = "SELECT node, config, version, created_at FROM pubsub_node WHERE service = $1 AND node = $2";
        let row = self
            .optional(sqlx::query(sql).bind(service).bind(name))
            .await?;
        row.as_ref().map(node).transpose()
    }

    async fn pubsub_nodes(
        &self,
        service: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<PubsubNode>, Error> {
        let sql = "SELECT node, config, version, created_at FROM pubsub_node
                   WHERE service = $1 AND ($2::text IS NULL OR node > $2) ORDER BY node LIMIT $3";
        let rows = self
            .all(
                sqlx::query(sql)
                    .bind(service)
                    .bind(after)
                    .bind(i64::from(limit)),
            )
            .await?;
        rows.iter().map(node).collect()
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
        let mut lease = self.begin(fence).await?;
        let result = configure(&mut lease, service, node, config, version, items_max).await;
        lease.end(result).await
    }

    async fn pubsub_delete(&self, fence: Fence, service: &str, node: &str) -> Result<bool, Error> {
        let sql = "DELETE FROM pubsub_node WHERE service = $1 AND node = $2 RETURNING 1";
        Ok(!self
            .write(fence, sqlx::query(sql).bind(service).bind(node))
            .await?
            .is_empty())
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
        let mut lease = self.begin(fence).await?;
        let result = publish_within(&mut lease, service, node, item, items_max, bytes_max).await;
        lease.end(result).await
    }

    async fn pubsub_items(
        &self,
        service: &str,
        node: &str,
        limit: u32,
    ) -> Result<Vec<PubsubItem>, Error> {
        let sql = "SELECT i.id, i.publisher, i.payload, i.at FROM pubsub_item i JOIN pubsub_node n ON n.id = i.node
                   WHERE n.service = $1 AND n.node = $2 ORDER BY i.seq DESC LIMIT $3";
        let rows = self
            .all(
                sqlx::query(sql)
                    .bind(service)
                    .bind(node)
                    .bind(i64::from(limit)),
            )
            .await?;
        rows.iter().rev().map(|row| item_at(row, 0)).collect()
    }

    async fn pubsub_item_heads(
        &self,
        service: &str,
        node: &str,
        limit: u32,
    ) -> Result<Vec<PubsubItemHead>, Error> {
        // The length of a payload is known without reading it.
        let sql = "SELECT i.id, octet_length(i.payload)::bigint, i.at
                   FROM pubsub_item i JOIN pubsub_node n ON n.id = i.node
                   WHERE n.service = $1 AND n.node = $2 ORDER BY i.seq DESC LIMIT $3";
        let statement = sqlx::query(sql).bind(service).bind(node);
        let rows = self.all(statement.bind(i64::from(limit))).await?;
        let head = |row| {
            Ok(PubsubItemHead {
                id: get(row, 0)?,
                bytes: get::<i64>(row, 1)?.unsigned_abs(),
                at: Timestamp(get(row, 2)?),
            })
        };
        rows.iter().rev().map(head).collect()
    }

    async fn pubsub_items_by_id(
        &self,
        service: &str,
        node: &str,
        ids: &[String],
    ) -> Result<Vec<PubsubItem>, Error> {
        let sql = "SELECT i.id, i.publisher, i.payload, i.at FROM unnest($3::text[]) WITH ORDINALITY w (id, place)
                   JOIN pubsub_node n ON n.service = $1 AND n.node = $2
                   JOIN pubsub_item i ON i.node = n.id AND i.id = w.id ORDER BY w.place";
        let rows = self
            .all(sqlx::query(sql).bind(service).bind(node).bind(ids))
            .await?;
        rows.iter().map(|row| item_at(row, 0)).collect()
    }

    async fn pubsub_last_items(
        &self,
        service: &str,
        nodes: &[String],
    ) -> Result<Vec<(String, PubsubItem)>, Error> {
        let sql = "SELECT n.node, i.id, i.publisher, i.payload, i.at
                   FROM unnest($2::text[]) WITH ORDINALITY w (node, place)
                   JOIN pubsub_node n ON n.service = $1 AND n.node = w.node
                   JOIN LATERAL (SELECT * FROM pubsub_item WHERE node = n.id ORDER BY seq DESC LIMIT 1) i ON true
                   ORDER BY w.place";
        let rows = self.all(sqlx::query(sql).bind(service).bind(nodes)).await?;
        rows.iter()
            .map(|row| Ok((get(row, 0)?, item_at(row, 1)?)))
            .collect()
    }

    async fn pubsub_retract(
        &self,
        fence: Fence,
        service: &str,
        node: &str,
        ids: &[String],
    ) -> Result<Vec<String>, Error> {
        let sql = "WITH d AS (DELETE FROM pubsub_item WHERE id = ANY ($3) AND node =
                   (SELECT id FROM pubsub_node WHERE service = $1 AND node = $2) RETURNING id)
                   SELECT d.id FROM unnest($3::text[]) WITH ORDINALITY w (id, place) JOIN d ON d.id = w.id
                   ORDER BY w.place";
        let rows = self
            .write(fence, sqlx::query(sql).bind(service).bind(node).bind(ids))
            .await?;
        rows.iter().map(|row| get(row, 0)).collect()
    }

    async fn pubsub_purge(&self, fence: Fence, service: &str, node: &str) -> Result<u64, Error> {
        let sql = "DELETE FROM pubsub_item WHERE node =
                   (SELECT id FROM pubsub_node WHERE service = $1 AND node = $2) RETURNING 1";
        Ok(self
            .write(fence, sqlx::query(sql).bind(service).bind(node))
            .await?
            .len() as u64)
    }

    async fn pubsub_subscribe(
        &self,
        fence: Fence,
        service: &str,
        subscription: &PubsubRelation,
        subscriptions_max: u32,
    ) -> Result<(), Error> {
        let mut lease = self.begin(fence).await?;
        let result = subscribe(&mut lease, service, subscription, subscriptions_max).await;
        lease.end(result).await
    }

    async fn pubsub_unsubscribe(
        &self,
        fence: Fence,
        service: &str,
        node: &str,
        jid: &str,
        subid: Option<&str>,
    ) -> Result<bool, Error> {
        let sql = "DELETE FROM pubsub_subscription WHERE jid = $3 AND ($4::text IS NULL OR subid = $4) AND node =
                   (SELECT id FROM pubsub_node WHERE service = $1 AND node = $2) RETURNING 1";
        let statement = sqlx::query(sql)
            .bind(service)
            .bind(node)
            .bind(jid)
            .bind(subid);
        Ok(!self.write(fence, statement).await?.is_empty())
    }

    async fn pubsub_subscriptions(
        &self,
        service: &str,
        node: Option<&str>,
        jid: Option<&str>,
    ) -> Result<Vec<PubsubRelation>, Error> {
        let sql = "SELECT n.node, s.jid, s.subid, s.state, s.options
                   FROM pubsub_node n JOIN pubsub_subscription s ON s.node = n.id
                   WHERE n.service = $1 AND ($2::text IS NULL OR n.node = $2) AND ($3::text IS NULL OR s.jid = $3)
                   ORDER BY n.node, s.jid, s.subid";
        let rows = self
            .all(sqlx::query(sql).bind(service).bind(node).bind(jid))
            .await?;
        rows.iter().map(relation).collect()
    }

    async fn pubsub_subscriptions_of(
        &self,
        service: &str,
        node: Option<&str>,
        bare: &str,
    ) -> Result<Vec<PubsubRelation>, Error> {
        let sql = "SELECT n.node, s.jid, s.subid, s.state, s.options
                   FROM pubsub_node n JOIN pubsub_subscription s ON s.node = n.id
                   WHERE n.service = $1 AND ($2::text IS NULL OR n.node = $2)
                   AND (s.jid = $3 OR starts_with(s.jid, $3 || '/')) ORDER BY n.node, s.jid, s.subid";
        let rows = self
            .all(sqlx::query(sql).bind(service).bind(node).bind(bare))
            .await?;
        rows.iter().map(relation).collect()
    }

    async fn pubsub_set_affiliation(
        &self,
        fence: Fence,
        service: &str,
        affiliation: &PubsubRelation,
    ) -> Result<(), Error> {
        let mut lease = self.begin(fence).await?;
        let result = set_affiliation(&mut lease, service, affiliation).await;
        lease.end(result).await
    }

    async fn pubsub_affiliations(
        &self,
        service: &str,
        node: Option<&str>,
        jid: Option<&str>,
    ) -> Result<Vec<PubsubRelation>, Error> {
        let sql = "SELECT n.node, a.jid, '', a.state, a.options
                   FROM pubsub_node n JOIN pubsub_affiliation a ON a.node = n.id
                   WHERE n.service = $1 AND ($2::text IS NULL OR n.node = $2) AND ($3::text IS NULL OR a.jid = $3)
                   ORDER BY n.node, a.jid";
        let rows = self
            .all(sqlx::query(sql).bind(service).bind(node).bind(jid))
            .await?;
        rows.iter().map(relation).collect()
    }
}
