-- The 100 Saudi suppliers who alone kept the most completed orders of several suppliers waiting.
-- tally: tpch.q21
SELECT s.s_name, count(*) AS waiting
FROM tpch.supplier AS s
JOIN tpch.lineitem AS late ON late.l_suppkey = s.s_suppkey
JOIN tpch.orders AS o ON o.o_orderkey = late.l_orderkey
JOIN tpch.nation AS n ON n.n_nationkey = s.s_nationkey
WHERE n.n_name = 'SAUDI ARABIA'
    AND o.o_orderstatus = 'F'
    AND late.l_receiptdate > late.l_commitdate
    AND EXISTS (
        SELECT FROM tpch.lineitem AS other
        WHERE other.l_orderkey = late.l_orderkey AND other.l_suppkey <> late.l_suppkey
    )
    AND NOT EXISTS (
        SELECT FROM tpch.lineitem AS other
        WHERE other.l_orderkey = late.l_orderkey
            AND other.l_suppkey <> late.l_suppkey
            AND other.l_receiptdate > other.l_commitdate
    )
GROUP BY s.s_name
ORDER BY waiting DESC, s.s_name
LIMIT 100
