-- Revenue of goods shipped between France and Germany, each way, in 1995 and 1996.
-- tally: tpch.q07
SELECT v.supplied_by, v.sold_to, v.year, sum(v.volume) AS revenue
FROM (
    SELECT
        ns.n_name AS supplied_by,
        nc.n_name AS sold_to,
        extract(year FROM l.l_shipdate) AS year,
        l.l_extendedprice * (1 - l.l_discount) AS volume
    FROM tpch.supplier AS s
    JOIN tpch.lineitem AS l ON l.l_suppkey = s.s_suppkey
    JOIN tpch.orders AS o ON o.o_orderkey = l.l_orderkey
    JOIN tpch.customer AS c ON c.c_custkey = o.o_custkey
    JOIN tpch.nation AS ns ON ns.n_nationkey = s.s_nationkey
    JOIN tpch.nation AS nc ON nc.n_nationkey = c.c_nationkey
    WHERE l.l_shipdate BETWEEN date '1995-01-01' AND date '1996-12-31'
        AND (
            (ns.n_name = 'FRANCE' AND nc.n_name = 'GERMANY')
            OR (ns.n_name = 'GERMANY' AND nc.n_name = 'FRANCE')
        )
) AS v
GROUP BY v.supplied_by, v.sold_to, v.year
ORDER BY v.supplied_by, v.sold_to, v.year
