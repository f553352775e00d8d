-- Orders of the third quarter of 1993 with a line received after its committed date, by priority.
-- tally: tpch.q04
SELECT o.o_orderpriority, count(*) AS orders
FROM tpch.orders AS o
WHERE o.o_orderdate >= date '1993-07-01'
    AND o.o_orderdate < date '1993-07-01' + interval '3 months'
    AND EXISTS (
        SELECT FROM tpch.lineitem AS l
        WHERE l.l_orderkey = o.o_orderkey AND l.l_receiptdate > l.l_commitdate
    )
GROUP BY o.o_orderpriority
ORDER BY o.o_orderpriority
