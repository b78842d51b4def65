//! What a user sets, on PostgreSQL.

use async_trait::async_trait;

use super::pool::Lease;
use super::{Postgres, get, scalar};
use crate::codec::{add_sorted, decode_strings, encode_archive_preferences, encode_strings};
use crate::{AccountId, ArchivePreferences, BlockList, Error, Fence, Preferences, VCard};

/// The list, its account locked.
async fn block_list(lease: &mut Lease, account: AccountId) -> Result<Option<BlockList>, Error> {
    let sql = "SELECT blocked_version, blocked FROM account WHERE id = $1 FOR UPDATE";
    let row = lease.optional(sqlx::query(sql).bind(account.0)).await?;
    row.map(|row| {
        Ok(BlockList {
            version: get(&row, 0)?,
            jids: decode_strings(get(&row, 1)?)?,
        })
    })
    .transpose()
}

async fn set_block_list(
    lease: &mut Lease,
    account: AccountId,
    list: &mut BlockList,
) -> Result<(), Error> {
    list.version += 1;
    let sql = "UPDATE account SET blocked_version = $2, blocked = $3 WHERE id = $1";
    let statement = sqlx::query(sql)
        .bind(account.0)
        .bind(list.version)
        .bind(encode_strings(&list.jids));
    lease.execute(statement).await.map(drop)
}

async fn block(
    lease: &mut Lease,
    account: AccountId,
    jids: &[String],
    blocked_max: u32,
) -> Result<BlockList, Error> {
    let mut list = block_list(lease, account)
        .await?
        .ok_or(Error::Conflict("the account is gone"))?;
    if add_sorted(&mut list.jids, jids) {
        if list.jids.len() > blocked_max as usize {
            return Err(Error::Conflict("the block list is full"));
        }
        set_block_list(lease, account, &mut list).await?;
    }
    Ok(list)
}

async fn unblock(
    lease: &mut Lease,
    account: AccountId,
    jids: Option<&[String]>,
) -> Result<BlockList, Error> {
    let Some(mut list) = block_list(lease, account).await? else {
        return Ok(BlockList::default());
    };
    let before = list.jids.len();
    list.jids
        .retain(|jid| jids.is_some_and(|going| !going.contains(jid)));
    if list.jids.len() != before {
        set_block_list(lease, account, &mut list).await?;
    }
    Ok(list)
}

#[async_trait]
impl Preferences for Postgres {
    async fn archive_preferences_set(
        &self,
        fence: Fence,
        account: AccountId,
        preferences: &ArchivePreferences,
    ) -> Result<(), Error> {
        let sql = "UPDATE account SET archive_preferences = $2 WHERE id = $1";
        let statement = sqlx::query(sql)
            .bind(account.0)
            .bind(encode_archive_preferences(preferences));
        self.write(fence, statement).await.map(drop)
    }

    async fn blocking_list(&self, account: AccountId) -> Result<BlockList, Error> {
        let sql = "SELECT blocked_version, blocked FROM account WHERE id = $1";
        let row = self.optional(sqlx::query(sql).bind(account.0)).await?;
        let list = row.map(|row| {
            Ok::<_, Error>(BlockList {
                version: get(&row, 0)?,
                jids: decode_strings(get(&row, 1)?)?,
            })
        });
        Ok(list.transpose()?.unwrap_or_default())
    }

    async fn blocking_add(
        &self,
        fence: Fence,
        account: AccountId,
        jids: &[String],
        blocked_max: u32,
    ) -> Result<BlockList, Error> {
        let mut lease = self.begin(fence).await?;
        let result = block(&mut lease, account, jids, blocked_max).await;
        lease.end(result).await
    }

    async fn blocking_remove(
        &self,
        fence: Fence,
        account: AccountId,
        jids: Option<&[String]>,
    ) -> Result<BlockList, Error> {
        let mut lease = self.begin(fence).await?;
        let result = unblock(&mut lease, account, jids).await;
        lease.end(result).await
    }

    async fn private_get(
        &self,
        account: AccountId,
        namespace: &str,
        name: &str,
    ) -> Result<Option<String>, Error> {
        let sql = "SELECT xml FROM private_xml WHERE account = $1 AND namespace = $2 AND name = $3";
        scalar(
            self.optional(sqlx::query(sql).bind(account.0).bind(namespace).bind(name))
                .await?,
        )
    }

    async fn private_set(
        &self,
        fence: Fence,
        account: AccountId,
        namespace: &str,
        name: &str,
        xml: &str,
        bytes_max: u64,
    ) -> Result<(), Error> {
        let sql = "INSERT INTO private_xml (account, namespace, name, xml) SELECT id, $2, $3, $4 FROM
                   (SELECT id FROM account WHERE id = $1 FOR UPDATE) a,
                   (SELECT coalesce(sum(octet_length(namespace) + octet_length(name) + octet_length(xml))
                        FILTER (WHERE NOT (namespace = $2 AND name = $3)), 0) others,
                    coalesce(sum(octet_length(xml)) FILTER (WHERE namespace = $2 AND name = $3), -1) earlier
                    FROM private_xml WHERE account = $1) stored WHERE octet_length($4) <= stored.earlier OR
                   stored.others + octet_length($2) + octet_length($3) + octet_length($4) <= $5
                   ON CONFLICT (account, namespace, name) DO UPDATE SET xml = excluded.xml RETURNING 1";
        let statement = sqlx::query(sql)
            .bind(account.0)
            .bind(namespace)
            .bind(name)
            .bind(xml)
            .bind(i64::try_from(bytes_max).unwrap_or(i64::MAX));
        match self.write(fence, statement).await?.is_empty() {
            true => Err(Error::Full("private XML, or the account is gone")),
            false => Ok(()),
        }
    }

    async fn vcard_get(&self, account: AccountId) -> Result<Option<VCard>, Error> {
        let sql = "SELECT xml, photo_hash FROM vcard WHERE account = $1";
        let row = self.optional(sqlx::query(sql).bind(account.0)).await?;
        row.map(|row| {
            Ok(VCard {
                xml: get(&row, 0)?,
                photo_hash: get(&row, 1)?,
            })
        })
        .transpose()
    }

    async fn vcard_set(
        &self,
        fence: Fence,
        account: AccountId,
        vcard: Option<&VCard>,
    ) -> Result<(), Error> {
        let Some(vcard) = vcard else {
            let statement = sqlx::query("DELETE FROM vcard WHERE account = $1").bind(account.0);
            return self.write(fence, statement).await.map(drop);
        };
        let sql = "INSERT INTO vcard (account, xml, photo_hash) VALUES ($1, $2, $3)
                   ON CONFLICT (account) DO UPDATE SET xml = excluded.xml, photo_hash = excluded.photo_hash";
        let statement = sqlx::query(sql)
            .bind(account.0)
            .bind(&vcard.xml)
            .bind(&vcard.photo_hash);
        self.write(fence, statement).await.map(drop)
    }
}
