-- From here on partitions are dropped only where files have their rows, and logs say what is lost.
-- Nothing is changed: the number has earlier releases, which know neither, refuse the database.
SELECT 1
