-- Parts that are more than a given fraction of what Germany's suppliers have in stock.
-- tally: tpch.q11
SELECT ps.ps_partkey, sum(ps.ps_supplycost * ps.ps_availqty) AS value
FROM tpch.partsupp AS ps
JOIN tpch.supplier AS s ON s.s_suppkey = ps.ps_suppkey
JOIN tpch.nation AS n ON n.n_nationkey = s.s_nationkey
WHERE n.n_name = 'GERMANY'
GROUP BY ps.ps_partkey
HAVING sum(ps.ps_supplycost * ps.ps_availqty) > (
    SELECT sum(total.ps_supplycost * total.ps_availqty) * 0.0001
    FROM tpch.partsupp AS total
    JOIN tpch.supplier AS s2 ON s2.s_suppkey = total.ps_suppkey
    JOIN tpch.nation AS n2 ON n2.n_nationkey = s2.s_nationkey
    WHERE n2.n_name = 'GERMANY'
)
ORDER BY value DESC
