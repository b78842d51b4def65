-- Bytes of a node's items, kept by the database itself, so that a service's sum reads one row per node. Items are
-- inserted and deleted, never updated.
ALTER TABLE pubsub_node ADD COLUMN bytes bigint NOT NULL DEFAULT 0;

UPDATE pubsub_node SET bytes = stored.bytes FROM
    (SELECT node, sum(octet_length(payload))::bigint AS bytes FROM pubsub_item GROUP BY node) stored
    WHERE stored.node = pubsub_node.id;

CREATE FUNCTION pubsub_item_more() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE pubsub_node n SET bytes = n.bytes + i.bytes FROM
        (SELECT node, sum(octet_length(payload))::bigint AS bytes FROM changed GROUP BY node) i WHERE n.id = i.node;
    RETURN NULL;
END $$;

CREATE FUNCTION pubsub_item_less() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE pubsub_node n SET bytes = n.bytes - i.bytes FROM
        (SELECT node, sum(octet_length(payload))::bigint AS bytes FROM changed GROUP BY node) i WHERE n.id = i.node;
    RETURN NULL;
END $$;

CREATE TRIGGER pubsub_item_more AFTER INSERT ON pubsub_item
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION pubsub_item_more();

CREATE TRIGGER pubsub_item_less AFTER DELETE ON pubsub_item
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION pubsub_item_less();
