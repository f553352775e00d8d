-- Lines received late in 1994 though shipped in time, of urgent orders and of others, by mode.
-- tally: tpch.q12
SELECT
    l.l_shipmode,
    sum(CASE WHEN o.o_orderpriority IN ('1-URGENT', '2-HIGH') THEN 1 ELSE 0 END) AS urgent,
    sum(CASE WHEN o.o_orderpriority NOT IN ('1-URGENT', '2-HIGH') THEN 1 ELSE 0 END) AS others
FROM tpch.orders AS o
JOIN tpch.lineitem AS l ON l.l_orderkey = o.o_orderkey
WHERE l.l_shipmode IN ('MAIL', 'SHIP')
    AND l.l_shipdate < l.l_commitdate
    AND l.l_commitdate < l.l_receiptdate
    AND l.l_receiptdate >= date '1994-01-01'
    AND l.l_receiptdate < date '1994-01-01' + interval '1 year'
GROUP BY l.l_shipmode
ORDER BY l.l_shipmode
