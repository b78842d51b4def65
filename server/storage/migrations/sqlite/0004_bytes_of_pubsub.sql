-- Bytes of a node's items, kept by the database itself, so that a service's sum reads one row per node.
ALTER TABLE pubsub_node ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;

UPDATE pubsub_node SET bytes =
    (SELECT coalesce(sum(length(payload)), 0) FROM pubsub_item WHERE pubsub_item.node = pubsub_node.id);

CREATE TRIGGER pubsub_item_more AFTER INSERT ON pubsub_item BEGIN
    UPDATE pubsub_node SET bytes = bytes + length(new.payload) WHERE id = new.node;
END;

CREATE TRIGGER pubsub_item_less AFTER DELETE ON pubsub_item BEGIN
    UPDATE pubsub_node SET bytes = bytes - length(old.payload) WHERE id = old.node;
END;
