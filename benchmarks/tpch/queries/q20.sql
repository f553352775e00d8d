-- Canadian suppliers with more than half of what 1994 asked for of some forest part in stock.
-- tally: tpch.q20
SELECT s.s_name, s.s_address
FROM tpch.supplier AS s
JOIN tpch.nation AS n ON n.n_nationkey = s.s_nationkey
WHERE n.n_name = 'CANADA'
    AND s.s_suppkey IN (
        SELECT ps.ps_suppkey
        FROM tpch.partsupp AS ps
        WHERE ps.ps_partkey IN (SELECT p.p_partkey FROM tpch.part AS p WHERE p.p_name LIKE 'forest%')
            AND ps.ps_availqty > (
                SELECT 0.5 * sum(l.l_quantity)
                FROM tpch.lineitem AS l
                WHERE l.l_partkey = ps.ps_partkey
                    AND l.l_suppkey = ps.ps_suppkey
                    AND l.l_shipdate >= date '1994-01-01'
                    AND l.l_shipdate < date '1994-01-01' + interval '1 year'
            )
    )
ORDER BY s.s_name
